package mysql

import (
	"errors"
	"regexp"
)

// statement is a statement as the driver takes it. Its named values are found once, when the store
// is made, and not at every call.
type statement struct {
	text  string   // has a question mark for each value
	names []string // of the values, in the order of the question marks
}

// valueName is a name as sqlx writes it. No statement has another colon.
var valueName = regexp.MustCompile(`:[a-z_]+`)

func compile(named string) statement {
	var s statement
	s.text = valueName.ReplaceAllStringFunc(named, func(name string) string {
		s.names = append(s.names, name[1:])
		return "?"
	})
	return s
}

// and returns the statement with more text at its end, which names no values.
func (s statement) and(text string) statement { return statement{s.text + text, s.names} }

// values are the arguments in the order in which the statement takes them.
func (s statement) values(args map[string]any) ([]any, error) {
	values := make([]any, len(s.names))
	for i, name := range s.names {
		value, ok := args[name]
		if !ok {
			return nil, errors.New("a statement names a value that it was not given")
		}
		values[i] = value
	}
	return values, nil
}
