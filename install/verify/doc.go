// Package verify holds a cluster against what was installed into it, and names
// what is missing, what drifted, field by field, and what does not run. It
// changes nothing.
package verify
