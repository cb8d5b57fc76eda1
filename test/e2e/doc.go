// Package e2e types the commands that people type, against real Kubernetes
// clusters that bin/lab starts, and asserts what they promise. It is behind
// the build tag e2e: `make e2e` builds what it needs and runs it.
//
// The labs are of its own (--name e2e…), so a lab that somebody is using is
// left alone. ISTHMUS_E2E_KEEP=1 leaves them up afterwards, to look at.
package e2e
