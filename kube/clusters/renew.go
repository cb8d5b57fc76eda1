package clusters

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// renewTimeout bounds one renewal.
	renewTimeout = 10 * time.Second
	// renewLook is how often all tokens are looked at, whatever happens.
	renewLook = time.Minute
	// A renewal that failed is tried again after a tenth of what the token has
	// left, within these bounds.
	renewSoonest, renewLatest = time.Second, time.Minute
	// renewAtOnce bounds how many clusters are asked at the same time.
	renewAtOnce = 8
)

// renewer renews the tokens in the Secrets at half of their life, by asking the
// API server that each is for, while this replica leads. The Secret is the place
// where the token is: all replicas take it from there.
type renewer struct {
	set *Set
	// after is when a cluster's token may be tried next.
	mu    sync.Mutex
	after map[string]time.Time // by cluster and token
}

// run renews tokens until ctx ends.
func (n *renewer) run(ctx context.Context) {
	for {
		wait := time.NewTimer(n.pass(ctx))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-n.set.tokens:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// pass renews what is due, and tells how long there is nothing to do.
func (n *renewer) pass(ctx context.Context) time.Duration {
	next := time.Now().Add(renewLook)
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, renewAtOnce)
	for _, m := range n.set.all() {
		due, ok := n.due(m)
		if !ok {
			continue
		}
		if time.Now().Before(due) {
			next = earlier(next, due)
			continue
		}

		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n.tryOne(ctx, m)
		})
	}
	wg.Wait()

	for _, m := range n.set.all() {
		if due, ok := n.due(m); ok {
			next = earlier(next, due)
		}
	}
	return max(time.Until(next), renewSoonest/10)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// due is when the member's token is to be renewed; false for a token that does not
// end, or has ended, or is of no service account, and while nobody can be asked.
func (n *renewer) due(m *member) (time.Time, bool) {
	token, reachable := m.token()
	c, err := readClaims(token)
	if err != nil || !reachable || c.ends().IsZero() || c.begins().IsZero() || time.Now().After(c.ends()) {
		return time.Time{}, false
	}
	if _, _, ok := c.account(); !ok {
		return time.Time{}, false
	}
	due := c.begins().Add(c.ends().Sub(c.begins()) / 2)

	n.mu.Lock()
	defer n.mu.Unlock()
	if after := n.after[string(m.id)+token]; after.After(due) {
		due = after
	}
	return due, true
}

func (n *renewer) tryOne(lead context.Context, m *member) {
	ctx, cancel := context.WithTimeout(lead, renewTimeout)
	defer cancel()
	token, _ := m.token()
	c, err := readClaims(token)
	if err == nil {
		err = n.renew(ctx, m, token, c)
	}
	if lead.Err() != nil {
		return // another replica goes on
	}

	n.mu.Lock()
	if n.after == nil || len(n.after) > 10_000 {
		n.after = map[string]time.Time{}
	}
	n.after[string(m.id)+token] = time.Now().Add(min(max(time.Until(c.ends())/10, renewSoonest), renewLatest))
	n.mu.Unlock()
	m.renewed(c.ends(), err)
}

// renew asks for another token of the same account, audiences and lifetime, and
// writes it where the old one is.
func (n *renewer) renew(ctx context.Context, m *member, old string, c claims) error {
	namespace, account, _ := c.account()
	life := int64(c.ends().Sub(c.begins()).Seconds())
	client := m.clients().Kube
	if client == nil {
		return errors.New("there is no way to the API server")
	}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: c.Audiences, ExpirationSeconds: &life},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if answer.Status.Token == "" {
		return errors.New("the API server answered with no token")
	}

	secrets := n.set.cfg.Client.CoreV1().Secrets(n.set.cfg.Namespace)
	secret, err := secrets.Get(ctx, m.secretName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	next, err := withToken(secret.Data[string(m.id)], n.set.cfg.Options, old, answer.Status.Token)
	if err != nil || next == nil {
		return err
	}
	secret.Data[string(m.id)] = next
	// A Secret that somebody else has changed meanwhile is a conflict.
	_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	return err
}

// withToken is a kubeconfig with another token in the place of old; nil when that
// is not there any more, because somebody else was faster.
func withToken(raw []byte, allowed []Option, old, token string) ([]byte, error) {
	a, err := parseKubeconfig(raw, allowed)
	if err != nil {
		return nil, fmt.Errorf("the Secret has changed: %w", err)
	}
	if a.token != old {
		return nil, nil
	}
	c, err := clientcmd.Load(raw)
	if err != nil {
		return nil, err
	}
	c.AuthInfos[a.user].Token = token
	return clientcmd.Write(*c)
}

// token is the one that the cluster is read by, and whether its API server can be
// asked.
func (m *member) token() (token string, reachable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.candidate.access.token, m.serving != nil && !m.serving.ended()
}

// renewed takes note of what became of a renewal.
func (m *member) renewed(ends time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.notRenewed = nil
		m.log.Info("the token is renewed", "secret", m.candidate.secret.Name)
		return
	}
	m.log.Warn("the token cannot be renewed; trying again", "ends", ends, "error", err)
	if m.notRenewed == nil {
		m.set.event(m.candidate.secret, "TokenNotRenewed",
			fmt.Sprintf("cluster %s: the token ends at %s and cannot be renewed: %v", m.id, ends.Format(time.RFC3339), err))
	}
	m.notRenewed = err
}
