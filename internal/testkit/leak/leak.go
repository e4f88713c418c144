// Package leak finds secrets in whatever a program prints. All secrets of a test have a mark in
// them, and the mark stands nowhere else.
package leak

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/latchkey-go/latchkey/credentials"
)

// verbs are those of fmt, with the flags that change how a value is printed. Missing is %p, which
// asks no value for its methods; vet finds that verb on a value that is no pointer.
var verbs = strings.Fields("%v %+v %#v %s %q %+q %#q %x %#x %X %.99s %99s %d %t %b %c %o %O %U %#U %e %g")

// shown returns v as a program shows it by accident: by fmt, log, log/slog and the encoders.
func shown(v any) (all []string) {
	for _, verb := range append(verbs, "% x", "% X") {
		all = append(all, fmt.Sprintf(verb, v))
	}
	var lines bytes.Buffer
	log.New(&lines, "", 0).Println(v)
	for _, handler := range []slog.Handler{slog.NewTextHandler(&lines, nil), slog.NewJSONHandler(&lines, nil)} {
		slog.New(handler).Info("it", "value", v, slog.Group("in", "list", []any{v}))
	}
	all = append(all, lines.String())
	for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		text, err := encode(v)
		all = append(all, string(text))
		if err != nil {
			all = append(all, err.Error())
		}
	}
	return all
}

// Printed returns how v shows the mark that all secrets of a test have in them, in letters or in
// digits; "" if it does not.
func Printed(v any, mark string) string {
	forms := []string{mark, strings.Trim(fmt.Sprint([]byte(mark)), "[]")}
	for _, verb := range []string{"%x", "%X", "% x", "% X"} {
		forms = append(forms, fmt.Sprintf(verb, mark))
	}
	for _, text := range shown(v) {
		for _, form := range forms {
			if strings.Contains(text, form) {
				return text
			}
		}
	}
	return ""
}

// Reached returns a text with the mark in it that reflection finds in v, as packages do that print
// whatever is behind a pointer; "" if there is none.
func Reached(v any, mark string) string {
	return (&walk{mark: mark, been: make(map[uintptr]bool)}).reach(reflect.ValueOf(v))
}

// walk follows everything that a value leads to, and each pointer once.
type walk struct {
	mark string
	been map[uintptr]bool
}

func (w *walk) reach(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		if strings.Contains(v.String(), w.mark) {
			return v.String()
		}
	case reflect.Pointer, reflect.Map:
		if v.IsNil() || w.been[v.Pointer()] {
			return ""
		}
		w.been[v.Pointer()] = true
	}
	for part := range parts(v) {
		if found := w.reach(part); found != "" {
			return found
		}
	}
	return ""
}

// parts yields the values that v is made of or leads to.
func parts(v reflect.Value) func(func(reflect.Value) bool) {
	return func(yield func(reflect.Value) bool) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				yield(v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if !yield(v.Field(i)) {
					return
				}
			}
		case reflect.Slice, reflect.Array:
			if v.Type().Elem().Kind() == reflect.Uint8 {
				text := make([]byte, v.Len())
				for i := range text {
					text[i] = byte(v.Index(i).Uint())
				}
				yield(reflect.ValueOf(string(text)))
				return
			}
			for i := range v.Len() {
				if !yield(v.Index(i)) {
					return
				}
			}
		case reflect.Map:
			for i := v.MapRange(); i.Next(); {
				if !yield(i.Key()) || !yield(i.Value()) {
					return
				}
			}
		}
	}
}

// Fill sets whatever can be set in v, a pointer: secrets to the mark, and the rest to a value that
// is not zero. Interfaces, functions and what is unexported stay.
func Fill(v any, mark string) { fill(reflect.ValueOf(v).Elem(), mark) }

func fill(v reflect.Value, mark string) {
	if v.Type() == reflect.TypeFor[credentials.Secret]() {
		v.Set(reflect.ValueOf(credentials.NewSecret(mark)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), mark)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), mark)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, mark)
		fill(value, mark)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	}
}

// ExportedTypes returns the names of the types that the package in that directory exports, but for
// interfaces.
func ExportedTypes(dir string) (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			if _, isInterface := spec.Type.(*ast.InterfaceType); !isInterface {
				names = append(names, spec.Name.Name)
			}
			return false
		})
	}
	slices.Sort(names)
	return names, err
}
