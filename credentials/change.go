package credentials

import (
	"errors"
	"fmt"
)

// ErrNotApplicable is wrapped where a [Change] does not fit the credential as it stands: there is
// no lease to end, or no dead grant to revive. Nothing was written.
var ErrNotApplicable = errors.New("the change does not fit the credential")

// Change names the credential that an operator changes by hand, and who does so.
type Change struct {
	Key Key

	// By says for people who makes the change: at most 255 printable ASCII characters. A change
	// that leaves a mark needs it.
	By string

	// Row and Version are those of the credential as the operator saw it. A credential that has
	// moved on since is left as it is, and the error wraps [ErrSuperseded]. Zero: whatever stands
	// there is changed.
	Row, Version uint64
}

// Normalize returns the change as a store makes it, under the normalized key. The error says what
// cannot be right.
func (ch Change) Normalize() (Change, error) {
	key, err := ch.Key.Normalize()
	if err != nil {
		return Change{}, err
	}
	if by := printable(ch.By, 255); by != ch.By {
		return Change{}, fmt.Errorf("the name of who changes %s must be printable ASCII of at most "+
			"255 characters", key)
	}
	ch.Key = key
	return ch, nil
}

// Moved returns the error of a credential that is not the one that the operator saw; nil if the
// change asks for none, or for this one.
func (ch Change) Moved(row, version uint64) error {
	switch {
	case ch.Row != 0 && ch.Row != row:
		return fmt.Errorf("%w: it was deleted and made again; look at it before you change it", ErrSuperseded)
	case ch.Version != 0 && ch.Version != version:
		return fmt.Errorf("%w: version %d was to be changed, and it has version %d by now; look at it again",
			ErrSuperseded, ch.Version, version)
	}
	return nil
}
