//go:build !race

package model

// raceDetector says that the program was built with -race.
const raceDetector = false
