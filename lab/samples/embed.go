// Package samples carries the source of the small programs that run in a lab,
// so that the lab binary can compile them wherever it is.
package samples

import _ "embed"

// Pause is the program of the container that holds a pod's namespaces.
//
//go:embed pause/main.go
var Pause []byte

// HelloWorld answers on port 5000 with its version and instance.
//
//go:embed helloworld/main.go
var HelloWorld []byte

// TCPEcho echoes lines, with and without a greeting.
//
//go:embed tcpecho/main.go
var TCPEcho []byte
