package main

import (
	"context"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/install/apply"
)

// warnUnheeded tells of objects in the cluster that have no effect in the mesh.
// It is never why a command fails: a user may be allowed less than to list them.
func warnUnheeded(ctx context.Context, w io.Writer, client *apply.Client) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	found, err := client.Unheeded(ctx)
	if err != nil {
		fmt.Fprintf(w, "! cannot tell which objects in the cluster have no effect: %v\n", err)
		return
	}
	for _, u := range found {
		mark := "!"
		if u.Security {
			mark = "! SECURITY:"
		}
		fmt.Fprintf(w, "%s %s\n", mark, u)
	}
}
