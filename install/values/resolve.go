package values

import (
	"cmp"
	"fmt"
	"maps"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/operator"
)

// File is one IstioOperator document as the user gave it.
type File struct {
	// Name is how errors call it.
	Name string
	Data []byte
}

// Input is what a user gives, in rising order of precedence: the profile that
// the last of them names, the files left to right, the flags, the sets.
type Input struct {
	Files []File
	// Sets are PATH=VALUE expressions; see operator.ParseSet.
	Sets []string
	// Revision and Namespace override the documents when not empty.
	Revision, Namespace string
	// Hub and Tag are used when nothing else names them.
	Hub, Tag string
}

// Config is a complete configuration.
type Config struct {
	// Tree is the whole spec, every default of the profile filled in.
	Tree operator.Tree
	// Given is Tree without what this binary filled in (the revision, and hub
	// and tag when nobody named them): laid under a later version's settings,
	// it gives the same installation at that version.
	Given operator.Tree
	// Spec is Tree as Go values.
	Spec *operator.Spec
	// Profile is the name of the profile that it started from.
	Profile string
	// Namespace is the control plane's.
	Namespace string
	// Revision is the control plane's; "default" when none was given.
	Revision string
	// Addition names an installation that stands beside a control plane's: one
	// whose documents have a name (metadata.name) and that has neither the
	// component base nor pilot, such as a gateway. It is "" for a control plane's.
	Addition string
	// Warnings tell of settings that are taken and change nothing.
	Warnings []string
}

// Resolve merges and checks.
func Resolve(in Input) (*Config, error) {
	layers, err := in.layers()
	if err != nil {
		return nil, err
	}
	name := baseProfile
	for _, l := range layers {
		name = cmp.Or(l.Profile(), name)
	}
	tree, err := Profile(name)
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		if err := checkPlaces(tree, l); err != nil {
			return nil, err
		}
		if tree, err = tree.With(l); err != nil {
			return nil, err
		}
	}
	tree["profile"] = name
	return in.complete(tree, name, layers)
}

// additionOf is the name of an installation that stands beside a control plane's,
// or "".
func additionOf(spec *operator.Spec, layers []*operator.Layer) (name string) {
	if spec.Components.Base.On() || spec.Components.Pilot.On() {
		return ""
	}
	for _, l := range layers {
		name = cmp.Or(l.Name, name)
	}
	return name
}

// layers parses everything that the user gave.
func (in Input) layers() ([]*operator.Layer, error) {
	var layers []*operator.Layer
	for _, f := range in.Files {
		l, err := operator.Load(f.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		layers = append(layers, l)
	}
	for _, s := range in.Sets {
		l, err := operator.ParseSet(s)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// complete fills in what depends on more than one key, and checks the whole.
func (in Input) complete(tree operator.Tree, profile string, layers []*operator.Layer) (*Config, error) {
	tree = normalise(tree)
	spec, err := tree.Typed()
	if err != nil {
		return nil, err
	}
	c := &Config{Tree: tree, Given: maps.Clone(tree), Spec: spec, Profile: profile, Addition: additionOf(spec, layers)}
	delete(c.Given, "revision")
	c.Namespace = cmp.Or(in.Namespace, spec.Namespace, spec.Values.Global.IstioNamespace, api.DefaultNamespace)
	c.Revision = cmp.Or(in.Revision, spec.Revision, spec.Values.Revision, api.DefaultRevision)
	spec.Hub = cmp.Or(spec.Hub, spec.Values.Global.Hub, in.Hub)
	spec.Tag = cmp.Or(spec.Tag, spec.Values.Global.Tag, in.Tag)
	tree["hub"], tree["tag"] = spec.Hub, spec.Tag
	tree["namespace"], tree["revision"] = c.Namespace, c.Revision
	spec.Namespace, spec.Revision = c.Namespace, c.Revision
	if err := c.check(); err != nil {
		return nil, err
	}
	c.Warnings = append(c.idle(), c.clusterDoubts()...)
	return c, nil
}
