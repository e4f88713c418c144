package localmysql

// SetSearchDirs replaces the folders that are searched after PATH, and returns a function that puts
// them back.
func SetSearchDirs(dirs ...string) (restore func()) {
	old := searchDirs
	searchDirs = dirs
	return func() { searchDirs = old }
}

// SetFreePort replaces the choice of a port, and returns the original and a function that puts it
// back.
func SetFreePort(choose func() (int, error)) (original func() (int, error), restore func()) {
	old := freePort
	freePort = choose
	return old, func() { freePort = old }
}
