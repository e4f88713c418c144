package keyset_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/latchkey-go/latchkey/internal/keyset"
)

// created is a new keyset file.
func created(t testing.TB) (name string, k *keyset.Keyset) {
	t.Helper()
	name, k = filepath.Join(t.TempDir(), "keyset.json"), newKeyset(t)
	must(t, keyset.Create(name, k))
	return name, k
}

// reads reads the file, which must be a keyset.
func reads(t testing.TB, name string) *keyset.Keyset {
	t.Helper()
	k, err := keyset.Read(name)
	must(t, err)
	return k
}

// alone fails the test unless the file is the only one in its folder, and has that mode.
func alone(t testing.TB, name string, mode os.FileMode) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(name))
	must(t, err)
	info, err := os.Stat(name)
	must(t, err)
	if len(entries) != 1 || info.Mode() != mode {
		t.Errorf("got %v and the mode %v, want the keyset file alone with %v", entries, info.Mode(), mode)
	}
}

func add(k *keyset.Keyset) error {
	_, err := k.Add()
	return err
}

func TestCreate(t *testing.T) {
	name, k := created(t)
	alone(t, name, 0o600)
	if !opens(t, reads(t, name), k) {
		t.Error("the file has other keys")
	}
	fails(t, "Create over a file", keyset.Create(name, newKeyset(t)), "there is a file "+name)
	if !opens(t, reads(t, name), k) {
		t.Error("Create has replaced a file")
	}
	missing := filepath.Join(t.TempDir(), "none", "keyset.json")
	fails(t, "Create without a folder", keyset.Create(missing, k), missing)
}

func TestReadRefusesFilesThatAreOpenToOthers(t *testing.T) {
	name, _ := created(t)
	for mode, ok := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o440: true, 0o640: true,
		0o644: false, 0o604: false, 0o660: false, 0o602: false, 0o601: false,
	} {
		must(t, os.Chmod(name, mode))
		_, err := keyset.Read(name)
		if ok && err != nil {
			t.Errorf("mode %#o: %v", mode, err)
		}
		if !ok {
			fails(t, mode.String(), err, "chmod 600 "+name)
		}
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	large := filepath.Join(folder, "large")
	must(t, os.WriteFile(large, make([]byte, 1<<20+1), 0o600))
	empty := filepath.Join(folder, "empty")
	must(t, os.WriteFile(empty, nil, 0o600))
	for name, want := range map[string]string{
		filepath.Join(folder, "none"): "demo key new --keyset",
		folder:                        "is a directory",
		large:                         "larger than 1 MiB",
		empty:                         "is empty",
	} {
		_, err := keyset.Read(name)
		fails(t, "Read", err, want)
		fails(t, "Read", err, name)
		err = keyset.Edit(name, func(*keyset.Keyset) error { return nil })
		fails(t, "Edit", err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "*.lock")); len(left) > 0 {
		t.Errorf("Edit has left %v", left)
	}
}

func TestEdit(t *testing.T) {
	name, old := created(t)
	must(t, os.Chmod(name, 0o640))
	must(t, keyset.Edit(name, add))
	alone(t, name, 0o640)
	if k := reads(t, name); len(k.Keys()) != 2 || !opens(t, k, old) {
		t.Errorf("got %v, want the old key and another", k)
	}

	refused := errors.New("refused")
	err := keyset.Edit(name, func(k *keyset.Keyset) error { return errors.Join(add(k), refused) })
	if !errors.Is(err, refused) || len(reads(t, name).Keys()) != 2 {
		t.Errorf("after an error %v the file has %v", err, reads(t, name))
	}
	alone(t, name, 0o640)
}

// TestEditFollowsLinks: a link to the file, as in a mount, goes on to be one.
func TestEditFollowsLinks(t *testing.T) {
	name, _ := created(t)
	link := filepath.Join(t.TempDir(), "link.json")
	must(t, os.Symlink(name, link))
	must(t, keyset.Edit(link, add))
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is no link any more: %v, %v", info, err)
	}
	if n := len(reads(t, name).Keys()); n != 2 {
		t.Errorf("the file has %d keys, want 2", n)
	}
}

// TestEditOneAtATime: no change is lost, since another one is refused while one is made.
func TestEditOneAtATime(t *testing.T) {
	name, _ := created(t)
	must(t, keyset.Edit(name, func(k *keyset.Keyset) error {
		fails(t, "Edit during another", keyset.Edit(name, add), "remove "+name+".lock")
		return add(k)
	}))
	var added, refused int
	var mu sync.Mutex
	var editing sync.WaitGroup
	for range 20 {
		editing.Go(func() {
			err := keyset.Edit(name, add)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				added++
			} else {
				refused++
			}
		})
	}
	editing.Wait()
	if n := len(reads(t, name).Keys()); n != 2+added || added == 0 {
		t.Errorf("the file has %d keys after %d changes and %d refusals", n, added, refused)
	}
}
