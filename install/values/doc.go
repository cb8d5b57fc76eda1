// Package values turns what a user gives (a profile, files, --set) into one
// checked configuration.
//
// It reads no files and talks to no cluster: callers hand it bytes. What becomes
// of the configuration is render's business.
package values
