// Package compile turns the objects of a cluster into rows of the model. It
// holds pure functions alone: no clients, clocks or stores. Package kube feeds
// it and writes what it returns.
package compile
