package mysql

import (
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"
)

// TestCompile holds the statements against sqlx, which finds the names at every call.
func TestCompile(t *testing.T) {
	for _, named := range []string{
		selectRow + byKey + forUpdate, selectIDs, lockDue, byClaim, selectVersions,
		updateClaim, updateSave, updateFail, updateRelease, insertNew, upsertPut, deleteRow,
	} {
		compiled := compile(named)
		args := make(map[string]any)
		for i, name := range compiled.names {
			args[name] = i // the last place, where a name comes twice
		}
		text, want, err := sqlx.Named(named, args)
		if err != nil {
			t.Errorf("%s: %v", named, err)
		}
		if compiled.text != text {
			t.Errorf("got the text %s, want %s", compiled.text, text)
		}
		if got, err := compiled.values(args); err != nil || !slices.Equal(got, want) {
			t.Errorf("got the values %v, error %v, want %v: %s", got, err, want, named)
		}
	}
}

func TestValuesMissing(t *testing.T) {
	args := map[string]any{"row": 7, "secret": "hunter2"}
	if got, err := compile("WHERE id = :row AND version = :version").values(args); err == nil {
		t.Errorf("got the values %v for a statement with a name that has none", got)
	} else if want := "a statement names a value that it was not given"; err.Error() != want {
		t.Errorf("got error %q, want %q", err, want)
	}
}
