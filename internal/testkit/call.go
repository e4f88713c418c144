package testkit

import (
	"context"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Method names a method of [credentials.Store].
type Method string

// The methods.
const (
	Get         Method = "Get"
	GetAll      Method = "GetAll"
	Versions    Method = "Versions"
	Ensure      Method = "Ensure"
	Claim       Method = "Claim"
	ClaimAll    Method = "ClaimAll"
	Save        Method = "Save"
	Fail        Method = "Fail"
	Release     Method = "Release"
	DueServices Method = "DueServices"
	ClaimDue    Method = "ClaimDue"
	FindClaims  Method = "FindClaims"
)

// Reads reports whether the method writes nothing.
func (m Method) Reads() bool {
	return m == Get || m == GetAll || m == Versions || m == DueServices || m == FindClaims
}

// Call is a call of a store: its arguments, and its answer when it was made. Fields that are not of
// the method are zero.
type Call struct {
	Method Method

	Key     credentials.Key            // of Get, Ensure and Claim
	Keys    []credentials.Key          // of GetAll and ClaimAll
	Rows    map[uint64]credentials.Key // of Versions
	Grant   credentials.Grant          // of Ensure
	Claim   credentials.Claim          // of Claim and ClaimAll
	Batch   credentials.Batch          // of ClaimDue and FindClaims
	Age     time.Duration              // of FindClaims
	Fence   credentials.Fence          // of Save, Fail and Release
	Renewal credentials.Renewal        // of Save
	Failure credentials.Failure        // of Fail

	Credential  credentials.Credential   // the answer of Get and Claim
	Credentials []credentials.Credential // of ClaimDue and FindClaims
	Found       []credentials.Found      // of GetAll and ClaimAll
	Versions    map[uint64]uint64        // of Versions
	Due         map[string]time.Duration // of DueServices
	Err         error
}

// Do makes the call and keeps its answer. A call that is to take effect when its caller has been
// answered already is made on a copy.
func (c *Call) Do(ctx context.Context, rows credentials.Store) error {
	switch c.Method {
	case Get:
		c.Credential, c.Err = rows.Get(ctx, c.Key)
	case GetAll:
		c.Found, c.Err = rows.GetAll(ctx, c.Keys)
	case Versions:
		c.Versions, c.Err = rows.Versions(ctx, c.Rows)
	case Ensure:
		c.Err = rows.Ensure(ctx, c.Key, c.Grant)
	case Claim:
		c.Credential, c.Err = rows.Claim(ctx, c.Key, c.Claim)
	case ClaimAll:
		c.Found, c.Err = rows.ClaimAll(ctx, c.Keys, c.Claim)
	case Save:
		c.Err = rows.Save(ctx, c.Fence, c.Renewal)
	case Fail:
		c.Err = rows.Fail(ctx, c.Fence, c.Failure)
	case Release:
		c.Err = rows.Release(ctx, c.Fence)
	case DueServices:
		c.Due, c.Err = rows.DueServices(ctx)
	case ClaimDue:
		c.Credentials, c.Err = rows.ClaimDue(ctx, c.Batch)
	case FindClaims:
		c.Credentials, c.Err = rows.FindClaims(ctx, c.Batch, c.Age)
	default:
		panic("testkit: no such method: " + c.Method)
	}
	return c.Err
}

// Won reports whether the call is a Claim that made the claim.
func (c *Call) Won() bool {
	lease := c.Credential.Lease
	return c.Method == Claim && c.Err == nil && lease.ID == c.Claim.ID && lease.Live()
}

// StoreFunc is a [credentials.Store] of one function. An error from it is the answer, and nothing
// of the call's answer is then returned beside it.
type StoreFunc func(ctx context.Context, call *Call) error

var _ credentials.Store = StoreFunc(nil)

// answer has the function make the call.
func (f StoreFunc) answer(ctx context.Context, call Call) (Call, error) {
	if err := f(ctx, &call); err != nil {
		return Call{}, err
	}
	return call, nil
}

// Get implements [credentials.Store].
func (f StoreFunc) Get(ctx context.Context, key credentials.Key) (credentials.Credential, error) {
	call, err := f.answer(ctx, Call{Method: Get, Key: key})
	return call.Credential, err
}

// GetAll implements [credentials.Store].
func (f StoreFunc) GetAll(ctx context.Context, keys []credentials.Key) ([]credentials.Found, error) {
	call, err := f.answer(ctx, Call{Method: GetAll, Keys: keys})
	return call.Found, err
}

// Versions implements [credentials.Store].
func (f StoreFunc) Versions(ctx context.Context, rows map[uint64]credentials.Key) (map[uint64]uint64, error) {
	call, err := f.answer(ctx, Call{Method: Versions, Rows: rows})
	return call.Versions, err
}

// Ensure implements [credentials.Store].
func (f StoreFunc) Ensure(ctx context.Context, key credentials.Key, grant credentials.Grant) error {
	_, err := f.answer(ctx, Call{Method: Ensure, Key: key, Grant: grant})
	return err
}

// Claim implements [credentials.Store].
func (f StoreFunc) Claim(
	ctx context.Context, key credentials.Key, claim credentials.Claim,
) (credentials.Credential, error) {
	call, err := f.answer(ctx, Call{Method: Claim, Key: key, Claim: claim})
	return call.Credential, err
}

// ClaimAll implements [credentials.Store].
func (f StoreFunc) ClaimAll(
	ctx context.Context, keys []credentials.Key, claim credentials.Claim,
) ([]credentials.Found, error) {
	call, err := f.answer(ctx, Call{Method: ClaimAll, Keys: keys, Claim: claim})
	return call.Found, err
}

// Save implements [credentials.Store].
func (f StoreFunc) Save(
	ctx context.Context, fence credentials.Fence, renewal credentials.Renewal,
) error {
	_, err := f.answer(ctx, Call{Method: Save, Fence: fence, Renewal: renewal})
	return err
}

// Fail implements [credentials.Store].
func (f StoreFunc) Fail(
	ctx context.Context, fence credentials.Fence, failure credentials.Failure,
) error {
	_, err := f.answer(ctx, Call{Method: Fail, Fence: fence, Failure: failure})
	return err
}

// Release implements [credentials.Store].
func (f StoreFunc) Release(ctx context.Context, fence credentials.Fence) error {
	_, err := f.answer(ctx, Call{Method: Release, Fence: fence})
	return err
}

// DueServices implements [credentials.Store].
func (f StoreFunc) DueServices(ctx context.Context) (map[string]time.Duration, error) {
	call, err := f.answer(ctx, Call{Method: DueServices})
	return call.Due, err
}

// ClaimDue implements [credentials.Store].
func (f StoreFunc) ClaimDue(
	ctx context.Context, batch credentials.Batch,
) ([]credentials.Credential, error) {
	call, err := f.answer(ctx, Call{Method: ClaimDue, Batch: batch})
	return call.Credentials, err
}

// FindClaims implements [credentials.Store].
func (f StoreFunc) FindClaims(
	ctx context.Context, batch credentials.Batch, age time.Duration,
) ([]credentials.Credential, error) {
	call, err := f.answer(ctx, Call{Method: FindClaims, Batch: batch, Age: age})
	return call.Credentials, err
}
