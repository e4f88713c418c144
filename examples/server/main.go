// Command server is a small service as a user of the library writes it: a handler that calls an
// external API with a stored token, a keeper beside it, and an orderly end.
//
//	MYSQL_DSN='app:secret@tcp(127.0.0.1:3306)/app' CLIENT_SECRET=… go run ./examples/server
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	db, err := sql.Open("mysql", os.Getenv("MYSQL_DSN"))
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := mysql.NewStore(db, nil)
	if err != nil {
		return err
	}
	if err := store.Check(ctx); err != nil {
		return err
	}
	github := oauth2refresh.New(oauth2.Config{
		ClientID: "Iv1.8a61f9b3a7aba766", ClientSecret: os.Getenv("CLIENT_SECRET"),
		Endpoint: oauth2.Endpoint{
			TokenURL: "https://github.com/login/oauth/access_token", AuthStyle: oauth2.AuthStyleInParams,
		},
	})
	manager, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: github}}, nil)
	if err != nil {
		return err
	}
	keeper, err := credentials.NewKeeper(manager, nil)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: api{manager}, ReadHeaderTimeout: 10 * time.Second}
	return serve(ctx, server, keeper, manager)
}

// serve runs the server and the keeper until ctx ends, or the server fails, and ends them in the
// order in which they depend on each other: the server's handlers, the keeper, the manager, and
// after the return the pool. Each gets a context of its own, since that of the signal has ended.
func serve(
	ctx context.Context, server *http.Server, keeper *credentials.Keeper, manager *credentials.Manager,
) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var working sync.WaitGroup
	working.Go(func() { _ = keeper.Run(ctx) })
	working.Go(func() {
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ending)
	})
	err := server.ListenAndServe()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	stop() // where the server failed, nobody has ended the others
	working.Wait()

	// No handler asks for a token any more. Exchanges that are under way end, and their results are
	// saved, before the pool is closed: ExchangeTimeout, StoreTimeout and a second are enough.
	ending, cancel := context.WithTimeout(context.Background(),
		credentials.DefaultExchangeTimeout+credentials.DefaultStoreTimeout+time.Second)
	defer cancel()
	return errors.Join(err, manager.Close(ending))
}

// api answers with the profile of the user whom the query names.
type api struct{ manager *credentials.Manager }

func (a api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := credentials.Key{Service: "github", Account: r.URL.Query().Get("user")}
	answer, err := a.profile(r.Context(), key)
	if err == nil {
		fmt.Fprintln(w, "the API answered with status", answer)
		return
	}
	log.Print(err) // it says which credential failed, how, and the remedy, and has no secret
	status, again := statusOf(err)
	if again > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(again.Seconds())))
	}
	http.Error(w, http.StatusText(status), status)
}

// profile calls the API. A token that the API turns down before its end is reported, and the call
// made once more with the next one.
func (a api) profile(ctx context.Context, key credentials.Key) (status int, err error) {
	token, err := a.manager.Token(ctx, key)
	if err != nil {
		return 0, err
	}
	status, err = call(ctx, token)
	if status != http.StatusUnauthorized {
		return status, err
	}
	if token, err = a.manager.Invalidate(ctx, key, token); err != nil {
		return 0, err
	}
	return call(ctx, token)
}

// errAPI is wrapped by the errors of the API's call.
var errAPI = errors.New("the API was not reached")

func call(ctx context.Context, token credentials.Token) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.github.com/user", nil)
	if err != nil {
		return 0, err
	}
	token.SetAuthHeader(request.Header)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errAPI, err)
	}
	defer response.Body.Close()
	return response.StatusCode, nil
}

// statusOf maps the errors of the manager, in the order of the table in the documentation of
// package credentials, to an answer and to when it is worth asking again, in whole seconds.
func statusOf(err error) (status int, again time.Duration) {
	var refresh *credentials.RefreshError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, 0 // of the request's own context; its client may have gone
	case errors.Is(err, credentials.ErrInvalidKey):
		return http.StatusBadRequest, 0
	case errors.Is(err, credentials.ErrNotFound), errors.Is(err, credentials.ErrGrantDead):
		return http.StatusForbidden, 0 // the person has to authorize (again)
	case errors.Is(err, credentials.ErrDisabled):
		return http.StatusServiceUnavailable, 0 // until an operator enables it again
	case errors.As(err, &refresh):
		return http.StatusServiceUnavailable, max(time.Until(refresh.RetryAt), 0).Truncate(time.Second) + time.Second
	case errors.Is(err, credentials.ErrUnavailable), errors.Is(err, credentials.ErrClosed):
		return http.StatusServiceUnavailable, time.Second
	case errors.Is(err, errAPI):
		return http.StatusBadGateway, 0
	default: // the service is not known here, or the table does not fit: a person has to mend it
		return http.StatusInternalServerError, 0
	}
}
