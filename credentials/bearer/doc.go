// Package bearer has requests to an external API carry the token of a credential (RFC 6750): over
// HTTP with a [Transport], over gRPC with a [PerRPC].
//
// [Client] is an HTTP client for one credential:
//
//	client := bearer.Client(source) // from Manager.Source
//	response, err := client.Get("https://api.example/user")
//
// A token that the API turns down with status 401 is reported, exchanged once for all who report
// it, in all processes, and the request is sent once more. An API that turns down every token
// causes two exchanges a minute at most ([credentials.Service].MinTokenAge).
//
// The package needs nothing but the standard library.
package bearer
