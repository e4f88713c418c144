package keyset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxSize bounds a keyset's text, which has a few hundred bytes for each key.
const maxSize = 1 << 20

// othersMode are the permissions that a keyset file must not give: others may do nothing with it,
// and its group may at most read it, as a mount's group does.
const othersMode fs.FileMode = 0o037

// Read reads a keyset file. A file that others can read or write is refused, as ssh refuses such a
// private key. Errors name the file and quote nothing of it.
func Read(name string) (*Keyset, error) {
	k, _, err := read(name)
	return k, err
}

func read(name string) (*Keyset, fs.FileInfo, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, openError(name, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read the keyset: %w", err)
	}
	if mode := info.Mode(); mode&othersMode != 0 && !mode.IsDir() && runtime.GOOS != "windows" {
		return nil, nil, fmt.Errorf("the keyset file %s is open to others (mode %#o); "+
			"take that away: chmod 600 %s", name, mode.Perm(), name)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("read the keyset: %w", err)
	case len(text) > maxSize:
		return nil, nil, fmt.Errorf("the keyset file %s is larger than %d MiB, and so no keyset; "+
			"is this the right file?", name, maxSize>>20)
	}
	k, err := Parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("the keyset file %s %w", name, err)
	}
	return k, info, nil
}

// openError says that there is no such file, or why it cannot be opened.
func openError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no keyset file %s; `demo key new --keyset %s` makes one", name, name)
	}
	return fmt.Errorf("read the keyset: %w", err)
}

// Create writes the keyset to a new file that its owner alone can read. A file that is there is
// left as it is, and an error is returned.
func Create(name string, k *Keyset) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is a file %s already, whose keys would be lost; name another, "+
			"or add a key to it: demo key rotate --add", name)
	}
	if err != nil {
		return fmt.Errorf("write the keyset: %w", err)
	}
	if err := write(file, k); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return syncFolder(name)
}

// Edit reads a keyset file, has change work on the keyset, and replaces the file, so that a reader
// finds the old keys or the new ones, after a power cut too. The new file is written under the name
// of a lock, which keeps other calls of Edit out from before the file is read. After an error the
// file is as before, unless the error says otherwise. The new file has the owner and the
// permissions of the old one.
func Edit(name string, change func(*Keyset) error) error {
	// A symbolic link is followed, and goes on to name the file.
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return openError(name, err)
	}
	lock, err := os.OpenFile(target+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("another command changes the keyset file %s, or was killed while it did; "+
			"if none runs, remove %s.lock", name, target)
	}
	if err != nil {
		return fmt.Errorf("change the keyset: %w", err)
	}
	if err := replace(target, lock, change); err != nil {
		_ = lock.Close() // fails where it is closed already
		return errors.Join(err, os.Remove(lock.Name()))
	}
	return syncFolder(target)
}

// replace writes the changed keyset to the lock's file and gives that file the name of the keyset
// file. After an error the lock's file is still there.
func replace(name string, lock *os.File, change func(*Keyset) error) error {
	k, info, err := read(name)
	if err != nil {
		return err
	}
	if err := change(k); err != nil {
		return err
	}
	if err := errors.Join(lock.Chmod(info.Mode().Perm()), keepOwner(lock, info)); err != nil {
		return fmt.Errorf("give the new keyset file the owner and the mode of the old one: %w", err)
	}
	if err := write(lock, k); err != nil {
		return err
	}
	if err := os.Rename(lock.Name(), name); err != nil {
		return fmt.Errorf("replace the keyset file: %w", err)
	}
	return nil
}

// write writes the keyset to the disk, and closes the file.
func write(file *os.File, k *Keyset) error {
	text, err := k.Text()
	if err == nil {
		if _, err = file.Write(text); err == nil {
			err = file.Sync()
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the keyset: %w", err)
	}
	return nil
}

// syncFolder has the entry of the file in its folder outlast a power cut.
func syncFolder(name string) error {
	if runtime.GOOS == "windows" { // where folders cannot be synced
		return nil
	}
	folder, err := os.Open(filepath.Dir(name))
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if err != nil {
		return fmt.Errorf("the keyset is written, but may not outlast a power cut: %w", err)
	}
	return nil
}
