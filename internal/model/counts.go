package model

import "reflect"

// Counts say what came to pass, so that Run sees whether its plans reached the corners.
type Counts struct {
	Plans, Exchanges, Claims, Lapsed, LateSaves, SupersededSaves, SupersededFailures, Replays, Deaths, Kills, Lost, Late int

	LongOutages    int // outages longer than a lease that began while a process had an exchange under way
	CrowdedOutages int // those that began while several processes had
	OutlastedSaves int // saves after the lease's end, which an outage had kept waiting, by the lease's own process
	Cuts           int // outages of one process's way to the store
	Lags           int // stretches in which a process read from a node that was behind
	StaleReads     int // answers of a node that was behind
	ClocksSet      int // times that the store's clock was set
	Forced         int // exchanges of a token that was turned down
	TooYoung       int // reports of a token that an exchange had just brought
}

func (c *Counts) add(d Counts) {
	to, from := reflect.ValueOf(c).Elem(), reflect.ValueOf(d)
	for i := range to.NumField() {
		to.Field(i).SetInt(to.Field(i).Int() + from.Field(i).Int())
	}
}
