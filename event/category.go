package event

// Category is one reason for a failure. Ids are used everywhere alike (rules,
// metrics, ledger, JSON, alerts) and never change meaning; the values are
// stored by name, never by number.
type Category uint8

const (
	Unset Category = iota
	MessageTooLarge
	MailboxFull
	UserUnknown
	UserInactive
	UserMoved
	RecipientRestricted
	RelayDenied
	SpamContent
	Malware
	Policy
	SenderRejected
	SPFFailed
	DKIMFailed
	DMARCFailed
	AuthFailed
	SenderUnverified
	QueueExpired
	IPBlocklisted
	DomainBlocklisted
	RDNSMissing
	RateLimited
	Greylisted
	BadDomain
	DNSFailed
	ConnectionFailed
	RoutingLoop
	TLSFailed
	AuthRequired
	ProtocolError
	SystemError
	SuppressedAddress
	LocalHold
	Unclassified
	categories // how many there are
)

// CategoryInfo describes a category for people.
type CategoryInfo struct {
	ID      string // stable name
	Group   string // what kind of reason it is
	Owner   string // who can fix it
	Meaning string // one sentence: what happened
	Advice  string // what to do about it, in concrete steps
	// Habit is the persistence where neither the outcome nor a code tells.
	Habit Persistence
}

var categoryInfo = [categories]CategoryInfo{
	MessageTooLarge: {"message_too_large", "size", "sender", "The message is larger than the receiving server or mailbox accepts.",
		"Send a link instead of the attachment, or compress it. If the limit surprises you, compare it with the SIZE that the server announces after EHLO and lower your own message_size_limit to the smallest you must serve.", Permanent},
	MailboxFull: {"mailbox_full", "mailbox_full", "recipient", "The recipient's mailbox is over its quota.",
		"Nothing is wrong on your side: retry for a few days, reach the recipient another way, and stop mailing addresses that stay full for weeks, since many of them are abandoned.", Transient},
	UserUnknown: {"user_unknown", "recipient", "list hygiene", "There is no such mailbox at that domain.",
		"Remove the address from your lists at once; repeated mail to unknown users hurts your reputation. If many appear at one time, look for an old or bought list, a broken sign-up form or a wrong import.", Permanent},
	UserInactive: {"user_inactive", "recipient", "list hygiene", "The mailbox exists but is disabled, suspended or unused.",
		"Stop mailing the address and remove it after a second failure some weeks later.", Permanent},
	UserMoved: {"user_moved", "recipient", "list hygiene", "The recipient has another address now.",
		"Replace the address by the one in the reply after the recipient has confirmed it, or remove it.", Permanent},
	RecipientRestricted: {"recipient_restricted", "recipient", "recipient", "This recipient, list or group takes mail only from some senders.",
		"Ask the recipient or the list's owner to allow your sender address; resending changes nothing.", Permanent},
	RelayDenied: {"relay_denied", "relay", "recipient's admin", "The server does not accept mail for that domain.",
		"Check that the domain's MX records point to the server that refused: usually the domain moved and one side was not told. If it is your own smarthost, check its relay permission and your authentication.", Permanent},
	SpamContent: {"spam_content", "content", "sender (content)", "The content was judged to be spam or phishing.",
		"Look at what changed in this message: links and their domains, shorteners, attachments, wording. Send a sample through your own filter, check the domains of all links against blocklists, and make sure that recipients asked for this mail.", Permanent},
	Malware: {"malware", "content", "sender (content)", "A virus, a dangerous attachment type or macros were found.",
		"Scan the sending machine and the file. If the file is clean, send it by a link or as a type that filters accept; macros and programs are refused almost everywhere.", Permanent},
	Policy: {"policy", "content", "sender", "The server refused by a local policy and names no closer cause.",
		"Read the reply and follow its link if it has one; ask the recipient's postmaster with the full reply, the time and your sending address.", Permanent},
	SenderRejected: {"sender_rejected", "sender", "sender", "The sender address is refused, invalid or blocked.",
		"Make sure that the envelope sender and the From address exist, have a domain with MX or address records and are not disposable; ask the recipient to unblock the address if it is blocked by hand.", Permanent},
	SPFFailed: {"spf_failed", "authorization", "sender's DNS", "The server names SPF as the cause: the sending address is not authorised by the domain.",
		"Look up the TXT record of the envelope sender's domain (dig +short TXT example.org) and check that the address you send from is covered by an ip4, ip6, a, mx or include term, that there is exactly one v=spf1 record and that it needs at most 10 look-ups. Correct it, wait for the old record's time to live and test with a message to a mailbox that shows Authentication-Results.", Permanent},
	DKIMFailed: {"dkim_failed", "authorization", "sender's DNS", "The server names DKIM as the cause: the signature is missing or does not verify.",
		"Check that outgoing mail is signed (the DKIM-Signature header), that selector._domainkey.domain has the public key that belongs to the private one, and that nothing changes the message after signing (footers, line wrapping, re-encoding).", Permanent},
	DMARCFailed: {"dmarc_failed", "authorization", "sender's DNS", "The server names DMARC as the cause: neither SPF nor DKIM passes for the From domain.",
		"Align the domains: sign with a DKIM key of the From domain, or send with an envelope sender of it. Look at the TXT record _dmarc.domain and at its aggregate reports to find the streams that are not covered.", Permanent},
	AuthFailed: {"auth_failed", "authorization", "sender's DNS", "The sender is not authenticated: several mechanisms failed, or none is named.",
		"Set up all three: an SPF record that covers the sending addresses, DKIM signing with a key of the From domain, and a DMARC record. Then test with a message to a mailbox that shows Authentication-Results.", Permanent},
	SenderUnverified: {"sender_unverified", "authorization", "sender", "The receiving server tried to verify the sender's address and failed.",
		"Make sure that the envelope sender's domain has reachable MX hosts that accept RCPT TO for that address, from the null sender too.", Permanent},
	QueueExpired: {"expired", "expired", "by secondary cause", "The message could not be delivered before the queue lifetime ended.",
		"Look at the secondary cause: it is what kept the message in the queue. Fix that, then resend.", Permanent},
	IPBlocklisted: {"ip_blocklisted", "reputation", "sender's network", "The sending IP address is on a blocklist or has a bad reputation.",
		"Find out why before you ask for removal: look at volume, complaints and compromised accounts of the last days. Then use the list's removal page; for a provider's own list its postmaster form.", Permanent},
	DomainBlocklisted: {"domain_blocklisted", "reputation", "sender", "The sender's domain, host name or a link's domain is on a blocklist or has a bad reputation.",
		"Find which domain is meant (From, envelope, HELO name, links) and why it is listed: an abused account, a hacked site, a shared link shortener. Clean up, then request removal from the list named.", Permanent},
	RDNSMissing: {"rdns_missing", "reputation", "sender's network", "The sending address has no matching host name, or the HELO name is refused.",
		"Set a PTR record for the sending address, an A or AAAA record that leads back to the same address, and use that name as HELO (Postfix smtp_helo_name).", Permanent},
	RateLimited: {"rate_limited", "rate", "sender (pace)", "Too many messages, connections or recipients in too short a time.",
		"Slow down for this provider: fewer parallel connections, fewer recipients a message, a delay between messages. Keep volume even from day to day and warm new addresses up.", Transient},
	Greylisted: {"greylisted", "rate", "nobody: retry", "A first contact is deferred on purpose; a later retry passes.",
		"Nothing to do: your MTA retries. If such mail never gets through, check that retries come from the same address.", Transient},
	BadDomain: {"bad_domain", "routing", "list hygiene", "The recipient's domain does not exist or does not accept mail.",
		"Correct the typing error or remove the address. If the domain is real, tell its owner that its MX record is missing or null.", Permanent},
	DNSFailed: {"dns_failed", "routing", "DNS", "A name look-up failed for now.",
		"Check your own resolver first (dig MX domain at the sending host). If it answers for other domains, the recipient's name servers are at fault and retries will do.", Transient},
	ConnectionFailed: {"connection_failed", "routing", "network", "No SMTP conversation: refused, timed out, lost or unreachable.",
		"Try the relay's port 25 from the sending host. If all destinations fail, look at your firewall, routes and IPv6; if it is one, its servers are down and retries will do.", Transient},
	RoutingLoop: {"routing_loop", "routing", "recipient's admin", "The message goes round in circles.",
		"Compare the MX records with the hosts in the Received headers: a server passes the mail to itself or back because it does not know that it is the final destination.", Permanent},
	TLSFailed: {"tls_failed", "routing", "both", "Encryption is required but not offered, or the handshake or certificate failed.",
		"Test with openssl s_client -starttls smtp -connect host:25. Check protocol versions and certificate on both sides, MTA-STS and DANE records, and the policy of your own MTA.", Transient},
	AuthRequired: {"auth_required", "protocol", "sender's config", "The server wants a login, or the login failed.",
		"If this is your smarthost, check user, password and port (587 or 465). If it is the recipient's MX, you are talking to a submission server: check the route.", Permanent},
	ProtocolError: {"protocol_error", "protocol", "sender's software", "An SMTP command or the message breaks the standard.",
		"Send such a message to yourself and look: one From, Date and Message-ID each, lines under 998 bytes, CRLF line ends, no raw 8-bit headers. Then correct the program that made it.", Permanent},
	SystemError: {"system_error", "system", "server's admin", "A server has an internal fault.",
		"Wait: your MTA retries. If the fault is local, look at disk space, permissions and the MTA's own log.", Transient},
	SuppressedAddress: {"suppressed", "local", "list hygiene", "The address is on a suppression list, so the message was not tried.",
		"Remove the address from the list you send to; lift the suppression only if you know why it failed and that it is fixed.", Permanent},
	LocalHold: {"local_hold", "local", "us", "Our own MTA holds, throttles or cancelled the message.",
		"Look for who held it and why (postqueue, the MTA's admin log), then release or delete it.", Transient},
	Unclassified: {"unclassified", "unknown", "—", "The reply does not say why.",
		"Read the sample replies. If the same wording is common and does tell, add a rule for it.", PersistenceUnknown},
}

// Categories lists every category in the taxonomy's order.
func Categories() []Category {
	all := make([]Category, 0, categories-1)
	for c := Unset + 1; c < categories; c++ {
		all = append(all, c)
	}
	return all
}

// Info describes the category; it is empty for Unset.
func (c Category) Info() CategoryInfo {
	if c < categories {
		return categoryInfo[c]
	}
	return CategoryInfo{}
}

// String returns the category's stable id, or "" for Unset.
func (c Category) String() string {
	if c < categories {
		return categoryInfo[c].ID
	}
	return ""
}

// CategoryByID returns the category with this stable id.
func CategoryByID(id string) (Category, bool) {
	c, ok := categoryByID[id]
	return c, ok
}

var categoryByID = func() map[string]Category {
	m := make(map[string]Category, categories)
	for c := Unset + 1; c < categories; c++ {
		m[categoryInfo[c].ID] = c
	}
	return m
}()
