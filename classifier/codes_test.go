package classifier

import (
	"fmt"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

// The enhanced status codes that IANA has registered
// (https://www.iana.org/assignments/smtp-enhanced-status-codes: RFC 3463, 3886,
// 4468, 4954, 6531, 6710, 6758, 7293, 7372, 7505, 8616 and others), and what each
// says of a failure where no words do. Unclassified stands for the codes whose
// meaning is "other or undefined", or whose meaning is no failure: they must
// decide nothing.
var registeredCodes = []struct {
	subject, detail int
	want            event.Category
}{
	{0, 0, event.Unclassified}, // other undefined status

	{1, 0, event.Unclassified}, // other address status; the stage tells whose address
	{1, 1, event.UserUnknown},
	{1, 2, event.BadDomain},
	{1, 3, event.UserUnknown},
	{1, 4, event.UserUnknown},
	{1, 5, event.Unclassified}, // destination address valid
	{1, 6, event.UserMoved},
	{1, 7, event.SenderRejected},
	{1, 8, event.SenderRejected},
	{1, 9, event.SystemError}, // relayed to a mailer that sends no status notifications
	{1, 10, event.BadDomain},  // null MX

	{2, 0, event.Unclassified}, // other or undefined mailbox status
	{2, 1, event.UserInactive},
	{2, 2, event.MailboxFull},
	{2, 3, event.MessageTooLarge},
	{2, 4, event.RecipientRestricted}, // mailing list expansion problem

	{3, 0, event.Unclassified}, // other or undefined mail system status; below for class 4
	{3, 1, event.SystemError},
	{3, 2, event.SystemError},
	{3, 3, event.ProtocolError}, // not capable of selected features
	{3, 4, event.MessageTooLarge},
	{3, 5, event.SystemError},
	{3, 6, event.SystemError}, // requested priority was changed

	{4, 0, event.ConnectionFailed},
	{4, 1, event.ConnectionFailed},
	{4, 2, event.ConnectionFailed},
	{4, 3, event.DNSFailed},
	{4, 4, event.BadDomain}, // unable to route; below for class 4
	{4, 5, event.RateLimited},
	{4, 6, event.RoutingLoop},
	{4, 7, event.QueueExpired},

	{5, 0, event.Unclassified}, // other or undefined protocol status
	{5, 1, event.ProtocolError},
	{5, 2, event.ProtocolError},
	{5, 3, event.RateLimited}, // too many recipients
	{5, 4, event.ProtocolError},
	{5, 5, event.ProtocolError},
	{5, 6, event.AuthRequired}, // authentication exchange line is too long

	{6, 0, event.ProtocolError},
	{6, 1, event.ProtocolError},
	{6, 2, event.ProtocolError},
	{6, 3, event.ProtocolError},
	{6, 4, event.ProtocolError},
	{6, 5, event.ProtocolError},
	{6, 6, event.SystemError}, // message content not available
	{6, 7, event.ProtocolError},
	{6, 8, event.ProtocolError},
	{6, 9, event.ProtocolError},
	{6, 10, event.ProtocolError},

	{7, 0, event.Unclassified}, // other or undefined security status
	{7, 1, event.Policy},       // delivery not authorized, message refused; nothing for class 4
	{7, 2, event.RecipientRestricted},
	{7, 3, event.TLSFailed}, // security conversion required but not possible
	{7, 4, event.AuthRequired},
	{7, 5, event.TLSFailed},
	{7, 6, event.TLSFailed},
	{7, 7, event.ProtocolError}, // message integrity failure
	{7, 8, event.AuthRequired},
	{7, 9, event.AuthRequired},
	{7, 10, event.TLSFailed},
	{7, 11, event.TLSFailed},
	{7, 12, event.AuthRequired},
	{7, 13, event.UserInactive},
	{7, 14, event.AuthRequired},
	{7, 15, event.RateLimited},     // priority level is too low
	{7, 16, event.MessageTooLarge}, // too big for the specified priority
	{7, 17, event.UserMoved},       // mailbox owner has changed
	{7, 18, event.BadDomain},       // domain owner has changed
	{7, 19, event.SystemError},     // RRVS test cannot be completed
	{7, 20, event.DKIMFailed},
	{7, 21, event.DKIMFailed},
	{7, 22, event.DKIMFailed},
	{7, 23, event.SPFFailed},
	{7, 24, event.SPFFailed},
	{7, 25, event.RDNSMissing},
	{7, 26, event.AuthFailed},
	{7, 27, event.SenderRejected}, // sender address has null MX
	{7, 28, event.RateLimited},    // mail flood detected
	{7, 29, event.AuthFailed},     // ARC validation failure
	{7, 30, event.TLSFailed},      // REQUIRETLS support required
}

// Every registered code either decides a category or is known to tell nothing.
func TestRegisteredCodes(t *testing.T) {
	s := shippedRules(t).NewSession()
	for _, c := range registeredCodes {
		for class, basic := range map[int]int{4: 450, 5: 550} {
			want := c.want
			switch {
			case class == 4 && c.subject == 3 && c.detail == 0:
				want = event.SystemError // a temporary fault of the mail system
			case class == 4 && c.subject == 4 && c.detail == 4:
				want = event.DNSFailed // no route for now
			case class == 4 && c.subject == 7 && c.detail == 1:
				want = event.Unclassified // any deferral: greylisting, pace, filters
			}
			reply := fmt.Sprintf("%d %d.%d.%d", basic, class, c.subject, c.detail)
			e := event.Event{Reply: event.Reply{Text: []byte(reply)}}
			s.Classify(&e)
			if e.Verdict.Category != want {
				t.Errorf("%s: %s, want %s", reply, e.Verdict.Category, want)
			}
		}
	}
}

// Of the basic codes those that have one meaning decide, where nothing else
// does; the others tell nothing (RFC 5321 section 4.2.3, RFC 4954, 7504).
func TestBasicCodes(t *testing.T) {
	s := shippedRules(t).NewSession()
	for code, want := range map[int]event.Category{
		421: event.Unclassified, 450: event.Unclassified, 451: event.Unclassified, 452: event.Unclassified, 454: event.Unclassified,
		550: event.Unclassified, 553: event.Unclassified, 554: event.Unclassified, // each of them means several things
		432: event.AuthRequired, 455: event.ProtocolError,
		500: event.ProtocolError, 501: event.ProtocolError, 502: event.ProtocolError, 503: event.ProtocolError, 504: event.ProtocolError, 555: event.ProtocolError,
		521: event.BadDomain, 556: event.BadDomain, 523: event.MessageTooLarge, 525: event.UserInactive,
		530: event.AuthRequired, 534: event.AuthRequired, 535: event.AuthRequired, 538: event.AuthRequired,
		551: event.UserMoved, 552: event.MailboxFull,
	} {
		e := event.Event{Reply: event.Reply{Text: fmt.Appendf(nil, "%d", code)}}
		s.Classify(&e)
		if e.Verdict.Category != want {
			t.Errorf("%d: %s, want %s", code, e.Verdict.Category, want)
		}
	}
}
