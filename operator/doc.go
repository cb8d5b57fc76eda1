// Package operator keeps a cluster as its IstioOperator resources say: it
// reconciles them with the code that "install" runs, and tells in their status
// how each component fares. It decides nothing of its own about what an
// installation is.
package operator
