// Package routes is the compiled form of a route configuration: which route a request takes, and what that route
// asks for (clusters by weight, header edits, retries, rewrites, redirects).
//
// A Table is immutable; a Source hands out the newest. Nothing here knows an HTTP version: a request is a Target.
package routes
