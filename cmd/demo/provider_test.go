package main

import (
	"context"
	"testing"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/provider"
)

func TestProviderAs(t *testing.T) {
	tooEarly := provider.Answer{Status: 400, Body: `{"error":"access_denied",` +
		`"error_description":"Rate limit exceeded: access_token not expired"}`}
	for _, test := range []struct {
		name string
		args []string
		want provider.Options
	}{
		{"strict", nil, provider.Options{Lifetime: time.Hour}},
		{"strict with a grace", []string{"--grace", "1m"}, provider.Options{Lifetime: time.Hour, Grace: time.Minute}},
		{
			"exact-online", []string{"--as", "exact-online"},
			provider.Options{Lifetime: 10 * time.Minute, Early: 30 * time.Second, TooEarly: tooEarly},
		},
		{
			"exact-online in a hurry", []string{"--as", "exact-online", "--lifetime", "40s"},
			provider.Options{Lifetime: 40 * time.Second, Early: 20 * time.Second, TooEarly: tooEarly},
		},
		{"xero", []string{"--as", "xero"}, provider.Options{Lifetime: 30 * time.Minute, Grace: 30 * time.Minute}},
		{"xero without grace", []string{"--as", "xero", "--grace", "0s"}, provider.Options{Lifetime: 30 * time.Minute}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got provider.Options
			cmd := providerCommand()
			cmd.Action = func(_ context.Context, cmd *cli.Command) (err error) {
				got, err = providerOptions(cmd)
				return err
			}
			must(t, cmd.Run(t.Context(), append([]string{"provider"}, test.args...)))
			if got.Lifetime != test.want.Lifetime || got.Grace != test.want.Grace ||
				got.Early != test.want.Early || got.TooEarly != test.want.TooEarly {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
		})
	}
}
