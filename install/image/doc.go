// Package image packs static Linux binaries as container images, so that nobody
// needs Docker or a Dockerfile: one binary on an empty root file system. The
// same binary gives the same image, byte for byte.
package image
