package values

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/api/operator"
)

//go:embed profiles/*.yaml
var profileFS embed.FS

// baseProfile is the profile that every other one is laid over.
const baseProfile = "default"

// Profiles lists the built-in profiles by name, sorted.
func Profiles() []string {
	entries, err := profileFS.ReadDir("profiles")
	if err != nil {
		panic(err) // embedded: cannot be missing
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Profile returns a built-in profile, laid over the default one.
func Profile(name string) (operator.Tree, error) {
	tree := operator.Tree{}
	layers := []string{baseProfile}
	if name != baseProfile {
		layers = append(layers, name)
	}
	for _, l := range layers {
		layer, err := builtin(l)
		if err != nil {
			return nil, err
		}
		if tree, err = tree.With(layer); err != nil {
			return nil, fmt.Errorf("profile %s: %w", l, err)
		}
	}
	return tree, nil
}

func builtin(name string) (*operator.Layer, error) {
	data, err := profileFS.ReadFile(path.Join("profiles", name+".yaml"))
	if err != nil {
		return nil, fmt.Errorf("no profile %q; there are %s", name, strings.Join(Profiles(), ", "))
	}
	layer, err := operator.Load(data)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", name, err)
	}
	return layer, nil
}
