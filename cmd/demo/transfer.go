package main

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

// transfer is a line of an export. The values are base64 in JSON: sealed as the table has them, or
// plain, where "extra" is a JSON object of strings.
type transfer struct {
	Service    string `json:"service"`
	Account    string `json:"account"`
	Deployment string `json:"deployment,omitempty"`
	Sealed     bool   `json:"sealed"`

	AccessToken  []byte `json:"access_token,omitempty"`
	RefreshToken []byte `json:"refresh_token,omitempty"`
	Extra        []byte `json:"extra,omitempty"`

	Expires        time.Time `json:"expires,omitzero"`
	RefreshExpires time.Time `json:"refresh_expires,omitzero"`

	Interrupted *transferEvent `json:"interrupted,omitempty"`
	Disabled    *transferEvent `json:"disabled,omitempty"`
	Dead        *transferDeath `json:"dead,omitempty"`
}

type transferEvent struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

type transferDeath struct {
	transferEvent

	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// transferOf returns the line of an exported credential, with the secrets that the export has.
func transferOf(e mysql.Exported) transfer {
	t := transfer{
		Service: e.Key.Service, Account: e.Key.Account, Deployment: e.Deployment, Sealed: e.Sealed,
		AccessToken: []byte(e.AccessToken.Reveal()), RefreshToken: []byte(e.RefreshToken.Reveal()),
		Extra: []byte(e.Extra.Reveal()), Expires: e.Expires, RefreshExpires: e.RefreshExpires,
		Interrupted: eventOf(e.Interrupted), Disabled: eventOf(e.Disabled),
	}
	if dead := eventOf(e.Dead); dead != nil {
		t.Dead = &transferDeath{transferEvent: *dead, Code: e.DeadCode, Reason: e.DeadReason}
	}
	return t
}

func eventOf(e mysql.Event) *transferEvent {
	if e.By == "" {
		return nil
	}
	return &transferEvent{By: e.By, At: e.At}
}

// event is the library's; the zero Event for none.
func (e *transferEvent) event() mysql.Event {
	if e == nil {
		return mysql.Event{}
	}
	return mysql.Event{By: e.By, At: e.At}
}

// exported is the credential of the line.
func (t transfer) exported() mysql.Exported {
	e := mysql.Exported{
		Key: credentials.Key{Service: t.Service, Account: t.Account}, Deployment: t.Deployment, Sealed: t.Sealed,
		AccessToken:  credentials.NewSecret(string(t.AccessToken)),
		RefreshToken: credentials.NewSecret(string(t.RefreshToken)),
		Extra:        credentials.NewSecret(string(t.Extra)),
		Expires:      t.Expires, RefreshExpires: t.RefreshExpires,
		Interrupted: t.Interrupted.event(), Disabled: t.Disabled.event(),
	}
	if t.Dead != nil {
		e.Dead, e.DeadCode, e.DeadReason = t.Dead.event(), t.Dead.Code, t.Dead.Reason
	}
	return e
}

// errNoTransfer is the error of a line that cannot be read, and quotes nothing of the line.
var errNoTransfer = errors.New("it is not a line that demo export has written")

// parseTransfer reads a line.
func parseTransfer(line []byte) (t transfer, err error) {
	if err := json.Unmarshal(line, &t); err != nil || t.Service == "" {
		return transfer{}, errNoTransfer
	}
	return t, nil
}
