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

// Each refusal is told from the others of its provider by the preset's own options, and an answer
// that is a fault of the server's, or that nobody looked at, is none.
func TestRefusalsAreToldApart(t *testing.T) {
	for _, p := range providers.All() {
		for _, r := range p.Refusals {
			t.Run(p.Name+"/"+r.Value.Says, func(t *testing.T) {
				if !json.Valid([]byte(r.Value.Body)) || r.Value.Says == "" {
					t.Errorf("Body is %q, Says %q", r.Value.Body, r.Value.Says)
				}
				classify := p.Options().Classify
				answer := oauth2refresh.Response{Status: statusOf(r.Value), Body: credentials.NewSecret(r.Value.Body)}
				if class, ok := classify(answer); !ok || class != r.Value.Class {
					t.Errorf("the class is %q, %v; want %q", class, ok, r.Value.Class)
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

// statusOf returns the status with which a refusal is played.
func statusOf(r providers.Refusal) int {
	if r.Status == 0 {
		return 400
	}
	return r.Status
}

// Whether invalid_grant is to be believed, after an interrupted exchange for one, is for the
// refresher to say.
func TestInvalidGrantIsLeftToTheRefresher(t *testing.T) {
	for _, p := range providers.All() {
		for _, r := range p.Refusals {
			answer := oauth2refresh.Response{
				Status: statusOf(r.Value), Code: "invalid_grant", Body: credentials.NewSecret(r.Value.Body),
			}
			class, ok := p.Options().Classify(answer)
			if ok && class == credentials.ClassDead {
				t.Errorf("%s: %s is dead by the preset's word", p.Name, r.Value.Body)
			}
			if !ok && r.Value.Class != credentials.ClassDead {
				t.Errorf("%s: %s is %s, and the preset does not say so", p.Name, r.Value.Body, r.Value.Class)
			}
		}
	}
}
