// Command demo shows latchkey at work and manages its table: a storm of processes that all need the
// same tokens, the migrations, and the credentials themselves.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/storm/worker"
)

// The exit statuses.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // what shells use for Ctrl-C
)

func main() {
	if worker.Started() {
		if err := worker.Run(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Exit(exitFailed)
		}
		return
	}
	// os.Exit runs no deferred calls, and one of them removes a private server: run has them all.
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the command, up to its exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(stdin, stdout, stderr).Run(ctx, args)
	switch usage := (*usageError)(nil); {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return exitFailed
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, "demo: interrupted")
		return exitInterrupted
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(stderr, "demo: %v\n", err)
		return exitUsage
	default:
		_, _ = fmt.Fprintf(stderr, "demo: %s\n", oneLine(err))
		return exitFailed
	}
}

// command is the command line.
func command(stdin io.Reader, stdout, stderr io.Writer) *cli.Command {
	root := &cli.Command{
		Name:  "demo",
		Usage: "one refresh, every worker: see it happen, and work on the credentials table",
		Description: `The server is the one that --dsn or $MYSQL_DSN names; else the one of
docker-compose.yml, if it answers on 127.0.0.1:33306 ($LATCHKEY_MYSQL_PORT is another port); else,
for storm alone, a private throw-away one from a mysqld or mariadbd on this machine.

Example: demo storm`,
		Flags: append([]cli.Flag{
			// No cli source for the variables: help would show their values, with a password and
			// keys, as the defaults.
			&cli.StringFlag{Name: "dsn", Usage: "the server, as `user:password@tcp(host:3306)/database`; " +
				"others can see arguments, so rather set $MYSQL_DSN"},
			&cli.BoolFlag{Name: "json", Usage: "write one JSON object to stdout and nothing else"},
		}, storeFlags()...),
		Commands: []*cli.Command{
			stormCommand(), migrateCommand(), schemaCommand(),
			putCommand(), getCommand(), listCommand(), deleteCommand(),
			disableCommand(), enableCommand(), releaseCommand(), reviveCommand(),
			exportCommand(), importCommand(),
			refreshCommand(), keepCommand(), providerCommand(),
			keyCommand(), rekeyCommand(), adoptCommand(),
		},
		Reader:         stdin,
		Writer:         stdout,
		ErrWriter:      stderr,
		Suggest:        true,
		ExitErrHandler: func(context.Context, *cli.Command, error) {}, // run has the exit status
		Action:         chooseSubcommand,
	}
	complete(root)
	return root
}

// complete gives every subcommand the settings that cli does not inherit.
func complete(cmd *cli.Command) {
	cmd.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
		return &usageError{command: cmd.FullName(), err: err}
	}
	for _, sub := range cmd.Commands {
		sub.HideHelpCommand = len(sub.Commands) == 0 // `demo get help` gets the service "help"
		complete(sub)
	}
}

// chooseSubcommand is the action of a command that only has subcommands.
func chooseSubcommand(_ context.Context, cmd *cli.Command) error {
	if !cmd.Args().Present() {
		return cli.ShowSubcommandHelp(cmd)
	}
	var names []string
	for _, sub := range cmd.VisibleCommands() {
		if sub.Name != "help" {
			names = append(names, sub.Name)
		}
	}
	return usagef(cmd, "there is no subcommand %q; there are %s",
		cmd.Args().First(), strings.Join(names, ", "))
}

// usageError is an error of the command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string {
	text := e.err.Error()
	return fmt.Sprintf("%s; see %s --help", strings.ToLower(text[:1])+text[1:], e.command)
}

func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cli.Command, format string, args ...any) error {
	return &usageError{command: cmd.FullName(), err: fmt.Errorf(format, args...)}
}

// noArguments refuses the arguments of a command that takes none.
func noArguments(cmd *cli.Command) error {
	if !cmd.Args().Present() {
		return nil
	}
	name := strings.TrimPrefix(cmd.FullName(), cmd.Root().Name+" ")
	return usagef(cmd, "%s takes no arguments, got %q", name, cmd.Args().First())
}

// errReported ends the command with a failure that its output has told already.
var errReported = errors.New("reported already")

// oneLine returns the error's text without line breaks: servers and loggers write some.
func oneLine(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " | ")
}
