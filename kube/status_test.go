package kube

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"strconv"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/api"
)

// numberVersions makes a client give objects a resourceVersion with every write, and
// refuse a write that names another than the last, as an API server does. The client
// holds its lock while it calls the reactors, so that nothing comes between.
func numberVersions(dyn *fakedynamic.FakeDynamicClient) {
	last := 0
	next := func() string {
		last++
		return strconv.Itoa(last)
	}
	conflict := func(action clienttesting.Action, name, version string) error {
		if version == "" {
			return nil
		}
		now, err := dyn.Tracker().Get(action.GetResource(), action.GetNamespace(), name)
		if err != nil {
			return err
		}
		if m, err := meta.Accessor(now); err != nil || m.GetResourceVersion() != version {
			return apierrors.NewConflict(action.GetResource().GroupResource(), name, errors.Join(errors.New("it has been modified"), err))
		}
		return nil
	}

	dyn.PrependReactor("create", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		m, err := meta.Accessor(action.(clienttesting.CreateAction).GetObject())
		if err != nil {
			return true, nil, err
		}
		m.SetResourceVersion(next())
		return false, nil, nil
	})
	dyn.PrependReactor("update", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		m, err := meta.Accessor(action.(clienttesting.UpdateAction).GetObject())
		if err == nil {
			err = conflict(action, m.GetName(), m.GetResourceVersion())
		}
		if err != nil {
			return true, nil, err
		}
		m.SetResourceVersion(next())
		return false, nil, nil
	})
	dyn.PrependReactor("patch", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := action.(clienttesting.PatchActionImpl)
		var u unstructured.Unstructured
		if err := json.Unmarshal(patch.Patch, &u.Object); err != nil {
			return true, nil, err
		}
		if err := conflict(action, patch.Name, u.GetResourceVersion()); err != nil {
			return true, nil, err
		}

		u.SetResourceVersion(next())
		var err error
		if patch.Patch, err = json.Marshal(u.Object); err != nil {
			return true, nil, err
		}
		return clienttesting.ObjectReaction(dyn.Tracker())(patch)
	})
}

// statusTest is a StatusWriter that writes when the test says so, and one
// ServiceEntry.
type statusTest struct {
	t      *testing.T
	dyn    *fakedynamic.FakeDynamicClient
	writer *StatusWriter
}

func newStatusTest(t *testing.T) *statusTest {
	dyn := fakedynamic.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{entriesResource: "ServiceEntryList"})
	numberVersions(dyn)
	if _, err := dyn.Resource(entriesResource).Namespace("shop").Create(t.Context(), entry("plain", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return &statusTest{t, dyn, NewStatusWriter(dyn, slog.New(slog.DiscardHandler))}
}

func (s *statusTest) entries() dynamic.ResourceInterface {
	return s.dyn.Resource(entriesResource).Namespace("shop")
}

func (s *statusTest) get() *unstructured.Unstructured {
	s.t.Helper()
	u, err := s.entries().Get(s.t.Context(), "plain", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

func (s *statusTest) patch(js string) {
	s.t.Helper()
	if _, err := s.entries().Patch(s.t.Context(), "plain", types.MergePatchType, []byte(js), metav1.PatchOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// given is the outcome of an entry whose host was given an address.
func given(address string) outcome {
	return outcome{entry: true, addresses: map[string]netip.Addr{"plain.bar.global": netip.MustParseAddr(address)}}
}

const movedAddress = `{"status": {"addresses": [{"host": "plain.bar.global", "value": "240.240.77.77"}]}}`

// TestOlderReportDoesNotOverwrite: what was worked out from an object that has changed
// since is not written on it. Once it was, and an address that had been restored was
// overwritten by the one before.
func TestOlderReportDoesNotOverwrite(t *testing.T) {
	s := newStatusTest(t)
	old := s.get()
	s.writer.report(entriesResource, old, given("240.240.0.1"))
	s.patch(movedAddress)
	s.writer.writePending(t.Context())
	if got := readAddresses(s.get()); !maps.Equal(got, given("240.240.77.77").addresses) {
		t.Errorf("addresses %v", got)
	}

	// The informer may have the new object when the old one's outcome is told.
	o := given("240.240.0.1")
	o.version = old.GetResourceVersion()
	s.writer.report(entriesResource, s.get(), o)
	s.writer.writePending(t.Context())
	if got := readAddresses(s.get()); !maps.Equal(got, given("240.240.77.77").addresses) {
		t.Errorf("after a report of the new object with the old one's outcome: addresses %v", got)
	}
}

// TestStatusIsOwedAfterAnotherChange: a change of labels alone costs no status. The
// Reader hears of every change, and reports anew.
func TestStatusIsOwedAfterAnotherChange(t *testing.T) {
	s := newStatusTest(t)
	s.writer.report(entriesResource, s.get(), given("240.240.0.1"))
	s.patch(`{"metadata": {"labels": {"a": "b"}}}`)
	s.writer.writePending(t.Context())
	s.writer.report(entriesResource, s.get(), given("240.240.0.1"))
	s.writer.writePending(t.Context())
	u := s.get()
	if got := readAddresses(u); !maps.Equal(got, given("240.240.0.1").addresses) || u.GetLabels()["a"] != "b" {
		t.Errorf("addresses %v, labels %v", got, u.GetLabels())
	}
}

// TestUnreadIsReadAgain: of an object of which only the metadata is watched, nobody
// reports anew; when it changes between reading and writing, it is read again, and what
// others said meanwhile stays.
func TestUnreadIsReadAgain(t *testing.T) {
	s := newStatusTest(t)
	writes := 0
	s.dyn.PrependReactor("patch", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		// Another's condition, just before the first write.
		if writes++; writes > 1 {
			return false, nil, nil
		}
		u := s.stored()
		u.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Theirs", "status": "True"}}}
		u.SetResourceVersion("another")
		return false, nil, s.dyn.Tracker().Update(entriesResource, u, "shop")
	})
	s.writer.reportUnread(entriesResource, "shop", "plain", outcome{err: errors.New("not honoured")})
	s.writer.writePending(t.Context())
	if writes != 1 || readCondition(s.get()).message != "" {
		t.Fatalf("%d writes, and %q is written over what was not read", writes, readCondition(s.get()).message)
	}

	select {
	case <-s.writer.some:
	default:
		t.Fatal("nobody is told to write again")
	}
	s.writer.writePending(t.Context())
	u := s.get()
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	if readCondition(u).message != "not honoured" || len(conditions) != 2 {
		t.Errorf("%s: %v", api.ConditionReconciled, conditions)
	}
}

// stored is the object as it stands, read without the client, whose lock reactors are
// called with.
func (s *statusTest) stored() *unstructured.Unstructured {
	s.t.Helper()
	obj, err := s.dyn.Tracker().Get(entriesResource, "shop", "plain")
	if err != nil {
		s.t.Fatal(err)
	}
	return obj.(*unstructured.Unstructured).DeepCopy()
}
