package credentials

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// order lists the files of this package from the ground up: a file uses names of files before it.
var order = strings.Fields(`
	doc key secret token errors credential claim status store revival change disconnect service
	observer stats options clock backoff refusals semaphore boundedlog events health boundedstore joint poller lostclaims engine recovery together
	known snapshot present exchange takeover slot claimant refresh lookout source cache manager
	limiter breaker backlog worker pass keeper round`)

// exported maps a file to how many identifiers it exports, for callers or for authors of stores.
var (
	forCallers = map[string]int{
		"key": 5, "secret": 2, "token": 7, "errors": 20, "status": 11, "revival": 2, "change": 2, "disconnect": 2, "service": 12, "options": 9, "observer": 15, "stats": 2,
		"source": 1, "manager": 2, "keeper": 2,
	}
	forStores = map[string]int{"token": 1, "credential": 6, "claim": 10, "store": 6}
)

// parse returns the package, checked, with the file of each use of a name.
func parse(t *testing.T) (*types.Package, *types.Info, func(token.Pos) string) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range order {
		file, err := parser.ParseFile(fset, name+".go", nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	checked, err := config.Check("credentials", fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	return checked, info, func(pos token.Pos) string {
		return strings.TrimSuffix(filepath.Base(fset.Position(pos).Filename), ".go")
	}
}

// The files of the package form a line: no name is used in a file before the one that declares it,
// so there is no circle.
func TestFilesPointOneWay(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if file := strings.TrimSuffix(name, ".go"); !strings.HasSuffix(file, "_test") && !slices.Contains(order, file) {
			t.Errorf("%s has no place in the order", name)
		}
	}
	checked, info, fileOf := parse(t)
	arrows := make(map[[2]string]bool)
	for use, object := range info.Uses {
		if object.Pkg() != checked {
			continue
		}
		from, to := fileOf(use.Pos()), fileOf(object.Pos())
		arrows[[2]string{from, to}] = true
		if slices.Index(order, to) > slices.Index(order, from) {
			t.Errorf("%s.go uses %s of %s.go, which comes after it", from, use.Name, to)
		}
	}
	if len(arrows) < len(order) {
		t.Errorf("only %d arrows were found", len(arrows))
	}
}

// The package's face has two halves: what callers need, and what authors of stores need besides.
func TestFace(t *testing.T) {
	checked, _, fileOf := parse(t)
	got := make(map[string]int)
	for _, name := range checked.Scope().Names() {
		if object := checked.Scope().Lookup(name); object.Exported() {
			got[fileOf(object.Pos())]++
		}
	}
	callers, stores := 0, 0
	for file, n := range got {
		if n != forCallers[file]+forStores[file] {
			t.Errorf("%s.go exports %d identifiers, want %d", file, n, forCallers[file]+forStores[file])
		}
		callers, stores = callers+min(n, forCallers[file]), stores+min(n, forStores[file])
	}
	t.Logf("%d identifiers for callers, %d more for authors of stores", callers, stores)
}
