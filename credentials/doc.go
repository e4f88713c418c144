// Package credentials hands out access tokens that many processes share, and has each renewed exactly once per expiry.
//
// Tokens of external APIs (OAuth 2.0 and the like) stand in one table, a [Store]; package mysql keeps it in MySQL. A
// process builds one [Manager] and asks it for tokens. While a token is fresh, that costs an atomic load and a clock
// read. When it runs out, one caller in one process exchanges the refresh token at the provider; every other caller, in
// every process, gets that result.
//
// # Who decides what
//
// Callers of one credential in one process join one flight. Between processes the row decides. A flight reads the row;
// if it has to be renewed, the flight claims it in a short transaction that locks the row, and commits before anything
// else happens. A claim is a lease: it has a random id, a fencing version and an end. Whoever does not get it commits at
// once and waits, or takes what the row then says. The holder calls the provider with no transaction and no connection
// held, and saves the result with one conditional statement. Only then do its callers get it, so no caller ever has a
// token that is not in the table.
//
// Correctness rests on two conditions and not on locks. A success is stored unless the result of a later claim, or a
// put, is stored already: a holder that was paused past the end of its lease may come back with the only refresh token
// that works. A failure is stored only if nothing at all was written since its claim: it never covers a success. The row
// lock makes contenders queue instead of collide; where a server does not honour it (several primaries), the version in
// the claim's condition is enough.
//
// # The two clocks
//
// Expirations and leases are written and compared by the database's clock alone. A process gets durations, and counts
// them on its own monotonic clock from before the statement was sent, so that what it believes ends early and never
// late. What it saves counts from what the database's clock showed at the claim, so that it ends no later if the save is
// long on its way. No two hosts' wall clocks are compared. On every slow path a process holds its wall clock's advance
// against its monotonic clock's: where they differ, the host slept, and what was cached is dropped.
//
// # Waiting
//
// Those who wait for another process's exchange hold nothing. The row remembers how long exchanges take; one poller for
// the whole process looks at the versions of all rows waited for in one statement, first when they should be done, then
// at growing pauses. When a lease has run out, they claim.
//
// # Ahead of expiry
//
// A token is due some time before it expires: by default in the last fifth of its life, at most 5 minutes before its
// end. From then on callers get the current token at once, every process that is asked for it watches the row in the
// background, and one of them renews it: each chooses a moment of its own to claim, within the first tenth of the time
// that is left. A failure is logged, not returned. Some providers end the old token the moment they issue the next one;
// since all look at the row several times a second, no process goes on serving it for longer than about a third of one,
// while the store answers.
//
// A process also looks at the row every 30 seconds, in the background, so that a credential which was replaced, rejected
// or deleted elsewhere is noticed. A token that the external API turned down is reported with [Manager.Reject].
//
// # Asked for or not
//
// [Manager.Keep] renews what is due though nobody asks, so that callers never wait; [Manager.RefreshDue] is one pass of
// it, for cron. Every process may keep: each claims a batch of rows that are due in one short transaction, passes over
// those that others have locked, and exchanges no more at a time than it claimed. A provider that fails five times in a
// row is tried with one exchange at a time. When it is back, the backlog is not taken up all at once but, beside what
// becomes due then, in the order in which it became due and at half that pace, or within half an hour where that is
// sooner. [Service] says how far ahead tokens are due, how long a refresh token may stay idle, and how much is exchanged
// at the same time and per second.
//
// # When things fail
//
//	what happened                         what callers get                    what follows
//	------------------------------------  ----------------------------------  ------------------------------------------
//	provider busy or not reached          the token while it is valid, then   back-off in the row; no process calls
//	(Transient)                           a *RefreshError with RetryAt        before it is over
//	provider says the grant is dead       the token while it is valid, then   nothing, in any process, until a new
//	(Rejected)                            ErrReauthRequired                   grant is put
//	answer lost, late or unreadable       the token while it is valid, then   after the back-off, by Replay: the refresh
//	(Unknown)                             a *RefreshError                     token is presented again, or never
//	holder died                           waiters wait until the lease ends   the next claim, by Replay; a rejection
//	                                                                          names the holder that died
//	holder paused past its lease          the next holder's result            its late success is kept unless a later
//	                                                                          one is stored; its failure covers nothing
//	result cannot be saved                the token while it is valid, then   saved when the store is back, for as long
//	                                      ErrUnavailable                      as the process lives
//	store not reached                     the token while it is valid, then   tried again by the next caller
//	                                      ErrUnavailable
//	caller gives up                       its context's error                 the exchange goes on for the others, and
//	                                                                          is saved
//	put or delete during an exchange      what the row then says              the exchange's result is dropped
//
// # What is not promised
//
// An exchange whose holder dies between the provider's answer and the save is lost with it: nobody else ever knew the
// new refresh token. A database that fails over asynchronously may forget a claim; if both holders then present the same
// single-use refresh token, the provider decides. A database clock that jumps forward ends leases early: for the length
// of one exchange two processes may hold claims. A process that is stopped in the instant between the last look at its
// clock and the request's first byte may present after its lease has ended. Tokens are stored as they are; encrypting
// the column or the disk is the host's business.
package credentials
