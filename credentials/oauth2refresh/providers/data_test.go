package providers_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
)

// All has each preset that the package declares, ordered by title.
func TestAllHasEveryPreset(t *testing.T) {
	var declared []string
	files, err := filepath.Glob("data_*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range exported(tree) {
			declared = append(declared, strings.ToLower(object))
		}
	}
	var listed, titles []string
	for _, p := range providers.All() {
		listed = append(listed, strings.ReplaceAll(p.Name, "-", ""))
		titles = append(titles, strings.ToLower(p.Title))
	}
	if !slices.IsSorted(titles) {
		t.Errorf("the titles are not in order: %v", titles)
	}
	slices.Sort(declared)
	slices.Sort(listed)
	if !slices.Equal(declared, listed) {
		t.Errorf("declared: %v\nlisted:   %v", declared, listed)
	}
}

// exported returns the names of the file's exported variables.
func exported(file *ast.File) (names []string) {
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if name.IsExported() {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

func TestFacts(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, p := range providers.All() {
		t.Run(p.Name, func(t *testing.T) {
			if !name.MatchString(p.Name) {
				t.Errorf("Name is %q", p.Name)
			}
			if !p.TokenURL.Stated() || !p.AuthStyle.Stated() || p.AuthStyle.Value == oauth2.AuthStyleAutoDetect {
				t.Error("TokenURL and AuthStyle have to be stated; no service works without")
			}
			if strings.Contains(p.TokenURL.Value, "{") != (p.Places != "") {
				t.Errorf("TokenURL is %q, and Places %q", p.TokenURL.Value, p.Places)
			}
			for _, f := range facts(p) {
				checkFact(t, f)
			}
			if p.Success.Stated() && !json.Valid([]byte(p.Success.Value)) {
				t.Errorf("Success is no JSON: %s", p.Success.Value)
			}
			for _, note := range p.Notes {
				if !strings.HasSuffix(note.Value, ".") {
					t.Errorf("a note is no sentence: %q", note.Value)
				}
			}
		})
	}
}

// checkFact checks that a fact has a value if it has a page, and a page if it has a value.
func checkFact(t *testing.T, f line) {
	t.Helper()
	if !f.stated {
		if f.value != "" {
			t.Errorf("%s is %q, and no page states it", f.name, f.value)
		}
		return
	}
	if f.value == "" {
		t.Errorf("%s has a page and no value", f.name)
	}
	if u, err := url.Parse(f.source); err != nil || u.Scheme != "https" || u.Host == "" {
		t.Errorf("the page of %s is %q, want an https URL", f.name, f.source)
	}
}

// Each refusal that the refresher does not know is told from the others of its provider by the
// preset's own options, and an answer that is a fault of the server's, or that nobody looked at, is
// none.
func TestRefusalsAreToldApart(t *testing.T) {
	for _, p := range providers.All() {
		for _, r := range p.Refusals {
			t.Run(p.Name+"/"+r.Value.Body, func(t *testing.T) {
				if !json.Valid([]byte(r.Value.Body)) {
					t.Errorf("Body is no JSON: %s", r.Value.Body)
				}
				known := r.Value.Says == ""
				answer := oauth2refresh.Response{Status: r.Value.Status, Body: credentials.NewSecret(r.Value.Body)}
				if answer.Status == 0 {
					answer.Status = 400
				}
				classify := p.Options().Classify
				if class, ok := classify(answer); ok == known || ok && class != r.Value.Class {
					t.Errorf("the class is %q, %v; want %q, %v", class, ok, r.Value.Class, !known)
				}
				for _, status := range []int{429, 500, 503} {
					answer.Status = status
					if class, ok := classify(answer); ok {
						t.Errorf("with %d the class is %q, want none", status, class)
					}
				}
			})
		}
	}
}

// Whether to believe invalid_grant, after an interrupted exchange for one, is for the refresher to
// say: no preset calls it dead by itself.
func TestInvalidGrantIsLeftToTheRefresher(t *testing.T) {
	for _, p := range providers.All() {
		for _, r := range p.Refusals {
			invalidGrant := strings.Contains(r.Value.Body, `"invalid_grant"`)
			if invalidGrant && r.Value.Class == credentials.ClassDead && r.Value.Says != "" {
				t.Errorf("%s calls %s dead", p.Name, r.Value.Body)
			}
		}
	}
}
