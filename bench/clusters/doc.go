// Package clusters measures what it costs a control plane to read one more
// cluster: the real discovery, in a process of its own, over simulated API
// servers that hold what a cluster holds and answer with lists and watches, and
// the proxies of a few pods. What counts is processor time and memory of
// discovery, and how much of what it has built a change in one cluster spoils.
package clusters
