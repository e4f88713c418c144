//go:build unix

package keyset

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives the file the owner of another one, since a service whose keyset an administrator
// changes must be able to read it afterwards.
func keepOwner(file *os.File, of fs.FileInfo) error {
	old, ok := of.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if now, ok := info.Sys().(*syscall.Stat_t); ok && now.Uid == old.Uid && now.Gid == old.Gid {
		return nil
	}
	return file.Chown(int(old.Uid), int(old.Gid))
}
