package wake

import "testing"

func TestSentTwiceIsReceivedOnce(t *testing.T) {
	s := NewSignal()
	select {
	case <-s:
		t.Fatal("received before it was sent")
	default:
	}

	for range 3 {
		s.Send()
	}
	<-s
	select {
	case <-s:
		t.Fatal("received twice")
	default:
	}

	s.Send()
	<-s
}
