package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
)

// apiField is a line of what `x api` lists.
type apiField struct {
	Kind     string `json:"kind"`
	Field    string `json:"field,omitempty"`
	Honoured bool   `json:"honoured"`
	// Note is what works instead of a kind that is not honoured.
	Note string `json:"note,omitempty"`
}

func newXAPICommand() *cobra.Command {
	var output string
	var missing bool
	cmd := &cobra.Command{
		Use:   "api [KIND]",
		Short: "List the fields of Istio's API, and which of them are honoured",
		Long: `Lists the kinds and fields of Istio's API, and which of them this version acts on. An
object with another field set is refused when it is applied, by the field's path; of
MeshConfig such a field is warned of. A field that is not honoured stands for all that
is in it.`,
		Example: `  isthmus x api
  isthmus x api VirtualService --missing
  isthmus x api MeshConfig -o json`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return apiKinds(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" && output != "yaml" {
				return fmt.Errorf("output format %q: json and yaml are possible", output)
			}

			fields := apiFields()
			if len(args) == 1 {
				fields = slices.DeleteFunc(fields, func(f apiField) bool { return !strings.EqualFold(f.Kind, args[0]) })
				if len(fields) == 0 {
					return fmt.Errorf("kind %q is none of the API of Istio; there are %s", args[0], strings.Join(apiKinds(), ", "))
				}
			}

			if missing {
				fields = slices.DeleteFunc(fields, func(f apiField) bool { return f.Honoured })
			}
			if output != "" {
				return printData(cmd.OutOrStdout(), output, fields)
			}
			return printFields(cmd.OutOrStdout(), fields)
		},
	}

	cmd.Flags().BoolVar(&missing, "missing", false, "only what is not honoured")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; a table for people when empty")
	return cmd
}

// meshConfigKind is how the mesh's settings are called beside the kinds of objects.
const meshConfigKind = "MeshConfig"

// apiFields lists everything: kinds that are honoured with their fields, MeshConfig,
// and kinds that are not.
func apiFields() []apiField {
	var out []apiField
	add := func(kind string, fields []api.Field) {
		for _, f := range fields {
			out = append(out, apiField{Kind: kind, Field: f.Path, Honoured: f.Honoured})
		}
	}
	for _, k := range api.Kinds() {
		add(string(k), api.Fields(k))
	}
	add(meshConfigKind, api.MeshFields())
	for _, k := range api.NotHonouredKinds() {
		if !k.Shared() {
			out = append(out, apiField{Kind: k.Kind, Note: k.Why()})
		}
	}
	return out
}

// apiKinds are the kinds that are listed, each once.
func apiKinds() []string {
	var out []string
	for _, f := range apiFields() {
		if !slices.Contains(out, f.Kind) {
			out = append(out, f.Kind)
		}
	}
	return out
}

func printFields(out io.Writer, fields []apiField) error {
	table := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(table, "KIND\tFIELD\tHONOURED")
	for _, f := range fields {
		honoured := "yes"
		if !f.Honoured {
			honoured = "no"
		}
		field := f.Field
		if field == "" {
			field = "(all)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Kind, field, honoured)
	}
	return table.Flush()
}
