package classifier

import "github.com/bouncemeter/bouncemeter/event"

// weight orders categories when a text gives reasons for several: the closer
// cause wins over its symptom and over a general remark. A rule's priority is
// added to it.
func weight(c event.Category) int {
	switch c {
	case event.QueueExpired:
		return 100
	case event.SuppressedAddress, event.LocalHold:
		return 95
	case event.SPFFailed, event.DKIMFailed, event.DMARCFailed:
		return 90
	case event.AuthFailed, event.SenderUnverified:
		return 85
	case event.Malware:
		return 82
	case event.IPBlocklisted, event.DomainBlocklisted:
		return 80
	case event.RDNSMissing:
		return 78
	case event.TLSFailed, event.AuthRequired:
		return 76
	case event.MessageTooLarge, event.MailboxFull, event.RoutingLoop:
		return 74
	case event.Greylisted, event.RateLimited:
		return 72
	case event.UserMoved, event.UserInactive:
		return 70
	case event.RelayDenied:
		return 68
	case event.SpamContent:
		return 66
	case event.BadDomain, event.DNSFailed:
		return 64
	case event.UserUnknown:
		return 62
	case event.RecipientRestricted, event.SenderRejected:
		return 60
	case event.ProtocolError:
		return 56
	case event.ConnectionFailed:
		return 54
	case event.SystemError:
		return 40
	case event.Policy:
		return 30
	}
	return 10
}
