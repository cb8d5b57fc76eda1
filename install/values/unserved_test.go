package values

import (
	"strings"
	"testing"
)

func TestUnserved(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"values.global.network=network1", ""},
		{"values.global.remotePilotAddress=192.0.2.1", "values.global.remotePilotAddress"},
		{"values.global.meshNetworks.network1.endpoints[0].fromRegistry=main0", "values.global.meshNetworks"},
	} {
		config, err := Resolve(Input{Sets: []string{c.set}})
		if err != nil {
			t.Fatalf("%s: %v", c.set, err)
		}
		err = config.Unserved()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want+":") {
			t.Errorf("%s: %v, want an error about %q", c.set, err, c.want)
		}
	}
}
