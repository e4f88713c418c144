package history_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/history"
)

const limit = 30 * time.Second

// The operations of one credential "c", with times in the order of their numbers.

func put(start, end int64, refresh string) history.Operation {
	return history.Operation{Kind: history.Put, Credential: "c", By: "parent", Start: start, End: end, Refresh: refresh}
}

func claim(start, end int64, refresh string, version uint64) history.Operation {
	return history.Operation{Kind: history.Claim, Credential: "c", By: "worker", Start: start, End: end, Refresh: refresh, Version: version}
}

func present(at int64, refresh string, used bool) history.Operation {
	return history.Operation{Kind: history.Present, Credential: "c", By: "worker", Start: at, End: at, Refresh: refresh, Used: used}
}

func commit(start, end int64, refresh, token, next string, version uint64) history.Operation {
	return history.Operation{
		Kind: history.Commit, Credential: "c", By: "worker", Start: start, End: end, Refresh: refresh, Token: token, Next: next, Version: version,
	}
}

func observe(start, end int64, token string) history.Operation {
	return history.Operation{Kind: history.Observe, Credential: "c", By: "caller", Start: start, End: end, Token: token}
}

func expiring(o history.Operation, at int64) history.Operation {
	o.Expires = at
	return o
}

// first and second are two exchanges without a fault.
var (
	first = []history.Operation{
		put(0, 5, "r0"), claim(10, 12, "r0", 2), present(15, "r0", true), expiring(commit(20, 25, "r0", "t1", "r1", 2), 100),
	}
	second = []history.Operation{
		claim(40, 42, "r1", 4), present(45, "r1", true), commit(50, 55, "r1", "t2", "r2", 4),
	}
)

func TestCheck(t *testing.T) {
	join := func(parts ...[]history.Operation) (all []history.Operation) {
		for _, part := range parts {
			all = append(all, part...)
		}
		return all
	}
	some := func(operations ...history.Operation) []history.Operation { return operations }

	for name, test := range map[string]struct {
		operations []history.Operation
		want       string // part of the violation; "": there is none
	}{
		"without a fault":                            {join(first, some(observe(11, 24, "t1"), observe(30, 31, "t1")), second, some(observe(41, 60, "t2"))), ""},
		"an older token that is still valid":         {join(first, second, some(observe(60, 61, "t2"), observe(90, 91, "t1"))), ""},
		"got at the moment of the commit":            {join(first, some(observe(10, 20, "t1"))), ""},
		"presented again after an unknown outcome":   {join(first, some(claim(40, 42, "r1", 4), present(45, "r1", false)), some(claim(60, 62, "r1", 5), present(65, "r1", true), commit(70, 71, "r1", "t2", "r2", 5))), ""},
		"nobody knows whether it was stored: it was": {join(first, some(claim(40, 42, "r1", 4), present(45, "r1", false), commit(50, history.Forever, "r1", "t2", "r2", 4), claim(60, 61, "r2", 5), observe(60, 70, "t2"))), ""},
		"nobody knows whether it was stored: no":     {join(first, some(claim(40, 42, "r1", 4), present(45, "r1", false), commit(50, history.Forever, "r1", "t2", "r2", 4), claim(60, 61, "r1", 5))), ""},
		"a late success before the later claim's":    {join(first, some(claim(40, 42, "r1", 4), present(45, "r1", false), claim(70, 71, "r1", 5), present(72, "r1", true), commit(80, 82, "r1", "t2", "r2", 4), commit(90, 92, "r1", "t3", "r3", 5), claim(95, 96, "r3", 6))), ""},
		"a new grant":           {join(first, some(put(60, 65, "s0"), claim(70, 71, "s0", 9))), ""},
		"got before the commit": {join(first, some(observe(11, 19, "t1"))), "1ns before worker began to commit it"},
		"got from nobody":       {join(first, some(observe(30, 31, "t9"))), "nobody committed"},
		"the older one, expired, after the later one": {join(first, second, some(observe(60, 61, "t2"), observe(101, 102, "t1"))), "had expired, and got it"},
		"presented twice":                         {join(first, some(present(30, "r0", true))), "known to be used up"},
		"presented twice, the second answer lost": {join(first, some(present(30, "r0", false))), "known to be used up"},
		"a claim finds what is replaced":          {join(first, second, some(claim(60, 61, "r1", 6))), "no order of its 8 operations explains them; the longest that does ends before: claim by worker"},
		"a claim finds what is not committed yet": {join(first, some(claim(30, 35, "r2", 4))), "no order"},
		"an earlier claim's result over a later's": {
			join(first, some(claim(40, 42, "r1", 4), present(45, "r1", false), claim(70, 71, "r1", 5), present(72, "r1", true), commit(80, 82, "r1", "t3", "r3", 5), commit(90, 92, "r1", "t2", "r2", 4))), "no order"},
		"the old grant's result over a new one": {join(first, some(claim(40, 42, "r1", 4), put(60, 65, "s0"), commit(70, 75, "r1", "t2", "r2", 4))), "no order"},
		"a commit that was lost":                {join(first, some(claim(30, 31, "r0", 3))), "no order"},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := history.Check(test.operations, limit)
			if verdict.Operations != len(test.operations) || len(verdict.Undecided) > 0 {
				t.Errorf("verdict = %+v, want %d operations and a decision", verdict, len(test.operations))
			}
			got := strings.Join(verdict.Violations, "\n")
			if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("violations: %q, want %q", got, test.want)
			}
			// The search must not depend on what is found without it.
			if explained := history.Explains(test.operations); explained != (test.want == "") {
				t.Errorf("the search finds an order: %v", explained)
			}
		})
	}
}

func TestCredentialsAreJudgedOneByOne(t *testing.T) {
	other := observe(30, 31, "t1") // of this credential nobody committed it
	other.Credential = "d"
	verdict := history.Check(append([]history.Operation{other}, first...), limit)
	if len(verdict.Violations) != 1 || !strings.HasPrefix(verdict.Violations[0], "d: ") {
		t.Errorf("violations: %q, want one, of d", verdict.Violations)
	}
}

// A long history with many callers, lost replies and replays is decided at once, and one wrong read
// in it is found.
func TestLongHistory(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	operations := []history.Operation{put(0, 5, "r0")}
	refresh, at := "r0", int64(10)
	for version := uint64(2); version < 300; version++ {
		token, next := fmt.Sprint("t", version), fmt.Sprint("r", version)
		operations = append(operations, claim(at, at+3, refresh, version))
		lost := random.IntN(5) == 0
		operations = append(operations, present(at+5, refresh, !lost))
		switch {
		case lost && random.IntN(2) == 0: // the save's reply was lost, the save was not
			operations = append(operations, commit(at+10, history.Forever, refresh, token, next, version))
			refresh = next
		case lost:
			operations = append(operations, commit(at+10, history.Forever, refresh, token, next, version))
		default:
			operations = append(operations, commit(at+10, at+15, refresh, token, next, version))
			refresh = next
			for range 100 {
				operations = append(operations, observe(at+random.Int64N(12), at+15+random.Int64N(500), token))
			}
		}
		at += 20
	}
	began := time.Now()
	if verdict := history.Check(operations, limit); len(verdict.Violations)+len(verdict.Undecided) > 0 {
		t.Fatalf("verdict = %+v", verdict)
	}
	if took := time.Since(began); took > limit/2 {
		t.Errorf("it took %v", took)
	}
	operations = append(operations, claim(at, at+1, "r0", 1000))
	if verdict := history.Check(operations, limit); len(verdict.Violations) != 1 {
		t.Errorf("with a claim that finds the first refresh token: %+v", verdict)
	}
}

// clockVariable makes this test binary a process that says what time it is.
const clockVariable = "LATCHKEY_HISTORY_CLOCK"

func TestMain(m *testing.M) {
	if os.Getenv(clockVariable) != "" {
		fmt.Println(history.Now())
		return
	}
	os.Exit(m.Run())
}

func TestProcessesShareTheClock(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), clockVariable+"=1")
	before := history.Now()
	said, err := child.Output()
	after := history.Now()
	if err != nil {
		t.Fatal(err)
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(said)), 10, 64)
	if err != nil || at <= before || at >= after {
		t.Errorf("a child says that it is %q, %v; want a time between %d and %d", said, err, before, after)
	}
}
