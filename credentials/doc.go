// Package credentials hands out access tokens that many processes share, and has each renewed
// exactly once per expiry.
//
// Tokens of external APIs (OAuth 2.0 and the like) stand in one table, a [Store]; package mysql
// keeps it in MySQL. A process builds one [Manager] and asks it for tokens. While a token is fresh,
// a call costs atomic loads and a clock read. When the token runs out, one caller in one process
// exchanges the refresh token at the provider; every other caller, in every process, gets the
// result of that exchange.
//
// # Glossary
//
//	grant            the right that a person or a provider gave: an access token, mostly with a
//	                 refresh token; a dead grant is one that the provider declared invalid
//	refresh          one process's work to bring a credential up to date: read, claim, exchange
//	call             the wait of all callers of one credential in one process, as in singleflight
//	claim            a write to the row that takes its lease, by compare-and-set on the version
//	lease            a committed claim, with a random id, a fencing version and an end
//	holder           the process whose lease stands in the row
//	fencing version  the row's version at the claim, which orders the results of claims
//	exchange         one holder's work under one lease: present, then save or fail
//	present          to send the refresh token (or the client's own credentials) to the provider
//	save, fail       to write the result of an exchange to the row, which gives up the lease
//	look             to ask the store for the version of a row, and so whether the row has moved
//	due              a token is due some time before it expires: callers still get it, and one
//	                 process renews it (soft expiry, or stale-while-revalidate)
//	renew            to replace a token that is due or has expired
//	settle           to end a call with a token or an error; its refresh may go on under a new call
//	invalidate       to report a token that the external API turned down before its end
//	take over        to put a new lease in the place of one whose holder seems dead
//	grace            the time that a living holder is given to save before its lease is taken over
//	disable          to mark a credential, as an operator: nobody gets its token, and no exchange of
//	                 it begins
//	seal, open       to encrypt a credential's secrets before they reach the store, bound to their
//	                 place there; to decrypt them
//	deployment       the installation to which a row belongs, by name: one installation's rows, or a
//	                 copy of them, are of no use to another
//
// # The row decides
//
// Callers of one credential in one process join one call. Between processes the row decides. The
// refresh behind a call reads the row; if the token has to be renewed, the refresh claims the row
// in a short transaction that locks the row, and commits before anything else happens. A process
// that does not get the lease commits at once and waits, or takes the token that the row then has.
// The holder presents the refresh token to the provider with no transaction and no connection held,
// and saves the result under one condition. Only then do its callers get the token, so no caller
// ever has a token that is not in the table.
//
// Correctness rests on two conditions and not on locks. A success is stored unless the result of a
// later claim, or a put, is stored already: a holder that was paused past the end of its lease may
// come back with the only refresh token that works. A failure is stored only if nothing but an
// operator's mark was written since its claim: a failure never covers a success. The row lock makes
// contenders queue instead of collide; where a server does not honour it (several primaries), the
// version in the claim's condition is enough.
//
// # The two clocks
//
// Expirations and leases are written and compared by the database's clock alone. A process gets
// durations, and counts them on its own monotonic clock. A token's life counts from before the
// statement was sent, so that the token ends early and never late; another's lease counts from when
// the answer was there, so that the lease ends late and never early. A saved lifetime counts from
// the database's clock at the claim, so that the token ends no later if the save is long on its
// way. No two hosts' wall clocks are compared. On every slow path a process holds its wall clock's
// advance against its monotonic clock's: where they differ, the host slept, the cached token is
// dropped, and nothing is presented under a claim from before.
//
// # Waiting
//
// Callers that wait for another process's exchange hold nothing. The row remembers how long
// exchanges take; one poller for the whole process looks at the versions of all rows waited for in
// one statement, first when the exchanges should be done, then at growing pauses.
//
// # When a holder does not come back
//
// A lease ends by itself. But a holder that lives may be late with the only refresh token that
// works: the store was away, or its clock has jumped. So a process takes another's lease over only
// when it has counted the lease's end on its own clock, has watched the row bear that very lease
// for the grace ([Options].StoreTimeout and a second), and has had all calls of its store answered
// in that time. Under its new claim, which shows that the store takes writes again, the process
// waits for the grace once more before it presents anything, and steps back if the row moves or a
// call is not answered. A holder that reaches the store whenever others do has then had the time to
// save. A batch of the keeper takes over only leases that ended at least a lease ago by the
// database's clock, and waits under its claims as well.
//
// A claim whose reply was lost, and under which nothing was presented, is found again by its
// process, and given up or used; to that process it never counts as an exchange of unknown outcome.
//
// # When the store does not answer
//
// A process has one view of its store. When a read is not answered within StoreTimeout, the breaker
// opens: callers whose token has expired get [ErrUnavailable] at once, and one call at a time,
// about twice a second, probes whether the store is back. Results wait to be stored for as long as
// the process lives, and go out the moment any call is answered. A row that somebody has locked is
// no failure of the store ([ErrRowLocked]).
//
// # Ahead of expiry
//
// A token is due some time before it expires: by default in the last fifth of its life, at most 5
// minutes before its end. From then on the first caller in a process has the row read, callers get
// the current token, every process that is asked for it watches the row in the background, and one
// process renews it: each chooses a moment of its own to claim, within the first tenth of the time
// that is left, so that there is no thundering herd. A failure is logged, not returned. Some
// providers end the old token the moment they issue the next one; since all processes look at the
// row several times a second, none goes on serving the old token for longer than about a third of a
// second, while the store answers.
//
// # Looks
//
// A process notices within [Options].Recheck (30 seconds) that a credential was replaced,
// invalidated or deleted elsewhere. The lookout reads the versions of all rows whose tokens were
// used in the last ten minutes, a part of them at a time, about once a second, however many they
// are; no caller waits for that. A token that nobody has used for so long is looked at when the
// next caller wants it: the caller waits for the look, for a quarter of a second at most and not at
// all while the store is known to be away, and then gets the token that is held. A row that says
// that the grant was replaced ends the token that is held, though the row may have no other yet.
//
// Reads that are asked for while another read is under way wait for the next statement, which reads
// all of them; so do claims, which pass over rows that another transaction has locked.
//
// # Tokens that the API turns down
//
// A token that the external API turned down before its end is reported with [Manager.Invalidate]
// and exchanged once, whoever and however many report it. An API that turns down every token must
// not cause an exchange per request: a token that an exchange brought less than
// [Service].MinTokenAge ago, by the store's clock, is too young to be exchanged before it is due.
// The row knows the age, so this holds for all processes together. A token that a person put is
// exempt.
//
// # Asked for or not
//
// A [Keeper] renews credentials that are due though nobody asks, so that callers never wait:
// [Keeper.Run] for as long as the process lives, [Keeper.RunOnce] once, for a cron job. Every
// process may run one. [Service] says how far ahead tokens are due, how long a refresh token may
// stay idle, and how much a keeper exchanges at the same time and per second.
//
// # Watched
//
// [Options].Observer is told when an exchange begins and ends, when callers have waited for one,
// and when the store does not answer any more and answers again; [Manager.Stats] has the figures,
// and the log a line for each exchange. Each exchange is told of by the process that makes it, so
// what all processes are told adds up: a grant that died is counted once.
//
// # When things fail
//
//	event                         callers get                      consequence
//	----------------------------  -------------------------------  ---------------------------------
//	provider busy or not reached  the token while it is valid,     back-off in the row; no process
//	(ClassTransient)              then a *RefreshError with        calls before it is over
//	                              RetryAt
//	provider says the grant is    the token while it is valid      nothing, in any process, until a
//	dead (ClassDead)              and not turned down, then        new grant is put
//	                              ErrGrantDead
//	provider refuses for a        the token while it is valid,     fewer and fewer tries; after six
//	reason that nobody knows      then a *RefreshError             hours the grant counts as dead,
//	                                                               unconfirmed, and Revive clears
//	                                                               the mark
//	answer lost, late or          the token while it is valid,     after the back-off, by Replay:
//	unreadable (ClassUnknown)     then a *RefreshError             the refresh token is presented
//	                                                               again, or never
//	holder died                   waiters wait until the lease     the next claim, by Replay; the
//	                              ends, and StoreTimeout and a     error of a dead grant names the
//	                              second more                      holder that died
//	holder paused past its lease  the next holder's result         its late success is kept unless a
//	                                                               later one is stored; its failure
//	                                                               covers nothing
//	result cannot be saved        the token while it is valid,     saved when the store is back, for
//	                              then ErrUnavailable              as long as the process lives
//	store not reached             the token while it is valid,     one call at a time tries; when
//	                              then ErrUnavailable              the store is back, holders save
//	                                                               first
//	row locked by another         the token while it is valid,     that credential waits, and no
//	transaction                   then ErrUnavailable and          other
//	                              ErrRowLocked
//	API turns a token down        the next token; of one that is   one exchange; no process makes
//	                              too young, a *RefreshError with  another one for MinTokenAge
//	                              RetryAt
//	caller gives up               its context's error              the exchange goes on for the
//	                                                               others, and is saved
//	put or delete during an       the row as it then is            the exchange's result is dropped
//	exchange
//	a reader is behind the        no error that was true only      a claim looks at the row under
//	server that takes the writes  before the last write            its lock, once a second at most
//	operator disables the         ErrDisabled, within Recheck      no exchange begins; one that is
//	credential                                                     under way is stored
//	tokens in the row do not      ErrSealed                        nothing is presented, and other
//	open                                                           credentials go on; a put mends it
//	row is another deployment's   ErrOtherDeployment               nothing is presented or written;
//	                                                               keepers stop
//
// # Errors, and what a handler does with them
//
// The first line that errors.Is or errors.As finds decides. Texts name the credential, the cause
// and the remedy, and have no secret: log them, and answer with the status alone.
//
//	error                     status  again                          whom to tell
//	------------------------  ------  -----------------------------  -------------------------------
//	the context's own         none    yes: the exchange goes on for  nobody; the client has gone, or
//	                          or 504  the others, and is saved       its time was over
//	ErrInvalidKey             400     no                             whoever named the account
//	ErrNotFound, ErrGrantDead 403     when a new grant was put       the person: authorize (again)
//	ErrDisabled               503     when an operator enabled it    nobody: an operator did so
//	*RefreshError             503     at RetryAt; zero: in a second  the operator, if it lasts
//	ErrUnavailable (also      503     in a second; other processes   the operator: the database, or
//	ErrRowLocked)                     may serve meanwhile            who holds the row
//	ErrShortLived             500     no                             the developer: the provider's
//	                                                                 tokens live shorter
//	ErrClosed                 503     at once, by another process    nobody: this one is going
//	ErrUnknownService         500     no                             the developer: its policy is
//	                                                                 missing in this program
//	ErrSchema                 500     no                             the operator: migrate
//	ErrSealed                 500     no                             the operator: the key that the
//	                                                                 error names, or a new grant
//	ErrOtherDeployment        500     no                             the operator: this is another's
//	                                                                 table, or a copy of it
//	any other                 500     no                             the operator
//
// An error is a context's, as errors.Is tells, only if the caller's own context has ended: the
// time-outs of the store, of exchanges and of finders of services stay inside.
//
// # Limits of the promise
//
// An exchange whose holder dies between the provider's answer and the save is lost with it: nobody
// else ever knew the new refresh token. At a provider that revokes on reuse, the same is true of a
// holder which alone is cut off from the store until the others have taken its lease over: choose a
// lease longer than the longest fail-over of one process's path to the store (some 40 s were seen
// with a router in between). A database that fails over asynchronously may forget a save, so that
// the row's refresh token was used up, or a claim, so that two holders present the same one; the
// provider then decides. Clocks of several primaries that are apart, and a database clock that
// jumps forward, are harmless to exchanges shorter than the grace, for so long is a lease watched,
// and not beyond. A process that is stopped in the instant between the last look at its clock and
// the request's first byte may present after its lease has ended. A store that does not seal has
// the tokens as they are, and so do its backups; one that seals cannot tell a whole row that was
// put back from the row that it was.
//
// # Two audiences
//
// Callers need the manager, its sources, the keeper, services and their refreshers, options,
// errors, the status of a credential, the observer and the figures (files key, secret, token,
// errors, status, service, observer, stats, options, source, manager, keeper), and for changes by
// hand [Change], [Revival] and [Disconnect]. Authors of a store need besides the row and the
// contract: [Credential], [Claim], [Store] and the types beside them (files credential, claim,
// store); package storetest has the contract as a test suite.
package credentials
