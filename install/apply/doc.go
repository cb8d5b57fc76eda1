// Package apply brings objects into a cluster and takes them out again.
//
// It compares what is wanted with what is there (plan), applies the difference
// in order with server-side apply as field manager "isthmus", waits until what
// was applied works, keeps an inventory of it in the cluster, and removes what
// an earlier installation of the same revision left behind. It changes only
// objects that it was given or that its inventory names.
//
// What the objects are is render's business; how progress looks is the
// caller's.
package apply
