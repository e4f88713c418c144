package history

import "time"

// Explains reports whether the search alone finds an order.
func Explains(operations []Operation) bool {
	_, result := search(operations, time.Minute)
	return result == possible
}
