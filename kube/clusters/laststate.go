package clusters

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// The last state of a cluster that is gone is kept in ConfigMaps beside the
// control plane, so that a control plane that starts meanwhile knows it. They are
// written by the leader when the cluster falls silent, and only then; they are
// deleted when it is back, or taken out.

const (
	// labelState marks the ConfigMaps; its value is the cluster.
	labelState = "isthmus.io/last-state"
	// annotationPart is which part of how many a ConfigMap holds, from 0 on:
	// "PART/PARTS".
	annotationPart = "isthmus.io/part"
	// annotationSum is the SHA-256 of all parts together.
	annotationSum = "isthmus.io/sum"
	// dataState is the key of the part in binaryData.
	dataState = "rows.json.gz"
	// maxPart bounds a part, bytes. The API server takes no object above 1.5 MB,
	// and binaryData is base64 there.
	maxPart = 900 << 10
	// maxState bounds what a state may unpack to, bytes.
	maxState = 1 << 30

	stateTimeout = 10 * time.Second
	stateRetry   = 10 * time.Second
)

// packState makes the ConfigMaps of a cluster's rows.
func packState(store *model.Store, id model.ClusterID, namespace string, most int) ([]*corev1.ConfigMap, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if err := errors.Join(store.Save(z, id), z.Close()); err != nil {
		return nil, err
	}

	sum := sha256.Sum256(packed.Bytes())
	parts := slices.Collect(slices.Chunk(packed.Bytes(), most))
	var out []*corev1.ConfigMap
	for i, part := range parts {
		out = append(out, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace,
				// By the sum, so that a newer state never overwrites half
				// of an older one.
				Name:   fmt.Sprintf("istio-last-state-%s-%d", hex.EncodeToString(sum[:8]), i),
				Labels: map[string]string{labelState: string(id)},
				Annotations: map[string]string{
					annotationPart: fmt.Sprintf("%d/%d", i, len(parts)),
					annotationSum:  hex.EncodeToString(sum[:]),
				},
			},
			BinaryData: map[string][]byte{dataState: part},
		})
	}
	return out, nil
}

// unpackState gives the rows that ConfigMaps hold. They may be those of several
// states, where a control plane was stopped between writing one and deleting the
// one before: the newest that is whole counts.
func unpackState(saved []corev1.ConfigMap, id model.ClusterID) (*model.Store, error) {
	bySum, written := map[string][]corev1.ConfigMap{}, map[string]time.Time{}
	for _, m := range saved {
		sum := m.Annotations[annotationSum]
		bySum[sum] = append(bySum[sum], m)
		if at := m.CreationTimestamp.Time; at.After(written[sum]) {
			written[sum] = at
		}
	}
	newestFirst := slices.SortedFunc(maps.Keys(bySum), func(a, b string) int {
		return cmp.Or(written[b].Compare(written[a]), cmp.Compare(a, b))
	})

	var wrong []error
	for _, sum := range newestFirst {
		packed, err := joinParts(bySum[sum], sum)
		if err == nil {
			var store *model.Store
			if store, err = unzip(packed, id); err == nil {
				return store, nil
			}
		}
		wrong = append(wrong, err)
	}
	return nil, errors.Join(wrong...)
}

func joinParts(parts []corev1.ConfigMap, sum string) ([]byte, error) {
	slices.SortFunc(parts, func(a, b corev1.ConfigMap) int { return partOf(&a) - partOf(&b) })
	var packed []byte
	for i := range parts {
		packed = append(packed, parts[i].BinaryData[dataState]...)
	}
	if got := sha256.Sum256(packed); hex.EncodeToString(got[:]) != sum {
		return nil, fmt.Errorf("the %d parts of the saved state %.16s are not all of it", len(parts), sum)
	}
	return packed, nil
}

func partOf(m *corev1.ConfigMap) int {
	text := m.Annotations[annotationPart]
	part, _, _ := bytes.Cut([]byte(text), []byte("/"))
	n, _ := strconv.Atoi(string(part)) // the sum tells when the order is wrong
	return n
}

func unzip(packed []byte, id model.ClusterID) (*model.Store, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return model.Restore(io.LimitReader(z, maxState), id)
}

// restore brings the saved state of the cluster into the Store, unless the cluster
// was read meanwhile. It is not tried again once it is known that there is none.
func (m *member) restore(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.set.timing.start/2)
	defer cancel()
	list, err := m.set.cfg.Client.CoreV1().ConfigMaps(m.set.cfg.Namespace).List(ctx,
		metav1.ListOptions{LabelSelector: labelState + "=" + string(m.id)})
	if err != nil {
		m.log.Warn("cannot look for the last state of a cluster that is gone", "error", err)
		return
	}

	var last *model.Store
	if len(list.Items) > 0 {
		if last, err = unpackState(list.Items, m.id); err != nil {
			m.log.Warn("the saved last state of a cluster that is gone is of no use, and ignored", "error", err)
		}
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	m.sought = true
	// Who promotes a reading sets read first, and its rows come after: they
	// replace these, and never the other way round.
	if last == nil || m.read {
		return
	}
	last.ChangeCluster(m.id, func(c *model.Cluster) {
		c.Stale, m.since = true, c.Since
	})
	m.set.store.Replace(m.id, last)
	m.log.Info("the cluster is gone; its last state is in force", "since", m.since)
}

// stateKeeper saves and deletes last states while this replica leads.
type stateKeeper struct {
	set *Set
	// kept are the clusters of which there is a state, and since when they
	// were gone then; zero when another process has written it.
	kept map[model.ClusterID]time.Time
}

// run keeps states until ctx ends.
func (k *stateKeeper) run(ctx context.Context) {
	k.kept = nil
	tick := time.NewTicker(stateRetry)
	defer tick.Stop()
	for {
		if err := k.pass(ctx); err != nil && ctx.Err() == nil {
			k.set.log.Warn("cannot keep the last states of clusters; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.set.changed:
		case <-tick.C:
		}
	}
}

func (k *stateKeeper) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	if !k.set.isListed() {
		return nil // it is not known which clusters there are
	}
	if k.kept == nil {
		if err := k.look(ctx); err != nil {
			return err
		}
	}

	var failed []error
	there := map[model.ClusterID]bool{}
	for _, m := range k.set.all() {
		there[m.id] = true
		gone, since := m.goneSince()
		was, kept := k.kept[m.id]
		switch {
		case gone && !was.Equal(since):
			failed = append(failed, k.save(ctx, m.id, since))
		case !gone && kept && m.follows():
			failed = append(failed, k.drop(ctx, m.id, ""))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(k.kept)) {
		if !there[id] {
			failed = append(failed, k.drop(ctx, id, ""))
		}
	}
	return errors.Join(failed...)
}

// look finds the states that others have written.
func (k *stateKeeper) look(ctx context.Context) error {
	list, err := k.configMaps(ctx, labelState)
	if err != nil {
		return err
	}
	k.kept = map[model.ClusterID]time.Time{}
	for _, m := range list {
		k.kept[model.ClusterID(m.Labels[labelState])] = time.Time{}
	}
	return nil
}

func (k *stateKeeper) configMaps(ctx context.Context, selector string) ([]corev1.ConfigMap, error) {
	list, err := k.set.cfg.Client.CoreV1().ConfigMaps(k.set.cfg.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (k *stateKeeper) save(ctx context.Context, id model.ClusterID, since time.Time) error {
	parts, err := packState(k.set.store, id, k.set.cfg.Namespace, maxPart)
	if err != nil {
		return fmt.Errorf("state of cluster %s: %w", id, err)
	}
	for _, m := range parts {
		_, err := k.set.cfg.Client.CoreV1().ConfigMaps(m.Namespace).Create(ctx, m, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("state of cluster %s: %w", id, err)
		}
	}
	k.set.log.Info("the last state of a cluster that is gone is saved", "cluster", string(id), "configmaps", len(parts))
	k.kept[id] = since
	return k.drop(ctx, id, parts[0].Annotations[annotationSum])
}

// drop deletes the states of a cluster but for the one with a sum.
func (k *stateKeeper) drop(ctx context.Context, id model.ClusterID, but string) error {
	list, err := k.configMaps(ctx, labelState+"="+string(id))
	if err != nil {
		return err
	}
	for _, m := range list {
		if but != "" && m.Annotations[annotationSum] == but {
			continue
		}
		err := k.set.cfg.Client.CoreV1().ConfigMaps(m.Namespace).Delete(ctx, m.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("state of cluster %s: %w", id, err)
		}
	}
	if but == "" {
		delete(k.kept, id)
	}
	return nil
}

// goneSince tells whether this process has read the cluster and cannot follow it
// any more: then its rows are the last state.
func (m *member) goneSince() (bool, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read && m.serving == nil, m.since
}

// follows tells whether the rows are those that the cluster has now.
func (m *member) follows() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.serving != nil && m.serving.at() == serving
}
