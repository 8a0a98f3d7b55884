package classifier

import (
	"strings"
	"testing"
)

func normalised(c *Classifier, s string) string {
	var x text
	x.normalise([]byte(s), c.t.keep)
	return strings.TrimPrefix(string(x.buf), " ")
}

func TestNormalise(t *testing.T) {
	c := shippedRules(t)
	for _, tt := range []struct{ name, text, want string }{
		{"codes are taken out", "550 5.1.1 User unknown", "user unknown"},
		{"and all their repeats", "550-5.1.1 User\n550-5.1.1 is\n550 5.1.1 unknown", "user is unknown"},
		{"on one line too", "550-5.1.1 User 550-5.1.1 is 550 5.1.1 unknown", "user is unknown"},
		{"escaped line ends", `550-User\n550 unknown`, "user unknown"},
		{"syslog's escapes", "550-User#012550 unknown", "user unknown"},
		{"another number stays a number", "550 User unknown in 551 lists", "user unknown in N lists"},
		{"address", "550 <bob.smith+tag@mail.example.com>: no", "ADDR no"},
		{"address in a URL", "see http://example.com/?to=bob%40example.com", "see http HOST ADDR"},
		{"IPv4", "client [192.0.2.1] bad", "client IP bad"},
		{"IPv4 before a colon", "IP=192.0.2.1: bad", "ip IP bad"},
		{"IPv6", "client [2001:db8::17] bad", "client IP bad"},
		{"IPv6 with its tag", "client [IPv6:2001:db8::17] bad", "client IP bad"},
		{"a time is no IPv6 address", "at 12:34:56 today", "at N today"},
		{"host", "mx-1.example.com rejects", "HOST rejects"},
		{"host that rules know", "listed at zen.spamhaus.org", "listed at zen.spamhaus.org"},
		{"below a host that rules know", "see https://www.spamcop.net/x", "see https spamcop.net x"},
		{"numbers and ids are one mask", "id a1b2c3-99 4711 x", "id N x"},
		{"id that rules know", "block list (S3140)", "block list s3140"},
		{"family that rules know", "refused LPN105_102", "refused lpn#_102"},
		{"a sentence of another script after a Latin word", "DNSの名前解決に失敗しましたので配信できません", "dnsの名前解決に失敗しましたので配信できません"},
		{"a number amid a sentence of another script", "3日以内に配信できず、1日の上限", "N 日以内に配信できず N 日の上限"},
		{"an address amid a sentence of another script", "用户bob@example.com不存在", "用户 ADDR 不存在"},
		{"a host amid a sentence of another script", "ドメインexample.comが見つからない。", "ドメイン HOST が見つからない"},
		{"an IP address amid a sentence of another script", "您的IP192.0.2.1已被列入", "您的 ip IP 已被列入"},
		{"an enhanced code before another script", "550 5.1.1用户不存在", "用户不存在"},
		{"an address in another script", "<用户@example.com> no, <bob@例子.公司> no, <josé@example.com>", "ADDR no ADDR no ADDR"},
		{"a long id is masked", "queued as abcdefghijklmnopqrstuvwxyzabcdefghijklm", "queued as N"},
		{"contractions", "it doesn't and can't, user's", "it doesnt and cant user s"},
		{"underscores for spaces, as qmail logs them", "550_5.1.1_<ann@x.example>:_User_unknown/", "ADDR user unknown"},
		{"underscores and hyphens", "BAD_RECIPIENT e-mail", "bad recipient e mail"},
		{"full stops", "Rejected. Go away.", "rejected . go away"},
		{"punctuation of other languages", "¡Error! Boîte «pleine» n´existe، خطا؟", "error . boite pleine n existe خطا"},
		{"full stop without a space", "rejected.Please go", "rejected . please go"},
		{"full stops in a row", "denied...5f3e2b1a...", "denied . N"},
		{"accents", "Boîte Größe ŁÓDŹ İ", "boite grosse lodz i"},
		{"Latin-1", "Bo\xeete pleine", "boite pleine"},
		{"UTF-8 read as Latin-1", "BoÃ®te dÃ©jÃ\u00a0 pleine", "boite deja pleine"},
		{"quoted-printable", "Bo=C3=AEte pleine, bo=EEte", "boite pleine boite"},
		{"a word that begins in quoted-printable", "=D1=8F=D1=89=D0=B8=D0=BA =C3=A9tat x=3D1", "ящик etat x N"},
		{"question marks inside of words", "Bo?te d?sactiv?e ok?", "bo?te d?sactiv?e ok"},
		{"Cyrillic", "Ящик ПЕРЕПОЛНЕН", "ящик переполнен"},
		{"Greek", "Ο χρήστης", "ο χρηστησ"},
		{"Chinese punctuation", "邮箱已满，无法。", "邮箱已满 无法"},
		{"control characters", "user\x00 \x1b unknown\x7f", "user unknown"},
		{"nothing", "", ""},
		{"only a code", "550 5.1.1", ""},
		{"wrapper", "host mx.example.com[192.0.2.1] said: 550 no (in reply to RCPT TO command)", "no"},
		{"IronPort's quotes", "5.1.0 - Unknown address error 550-'5.7.1 no relaying' (delivery attempts: 0)", "no relaying"},
		{"IronPort's quotes cut off", "5.1.0 - Unknown address error 550-'5.7.1 can't relay fo", "cant relay fo"},
		{"IronPort without a quote", "5.1.0 - Unknown address error", "unknown address error"},
		{"IronPort's quotes after another word", "5.3.0 - Other mail system problem 554-'5.7.1 no relaying' (delivery attempts: 0)", "no relaying"},
		{"quotes of a reply", "550 no - see 554-'x'", "no see N x"},
		{"said without a reply", "he said: no", "he said no"},
		{"replied", "the server replied: 550 no", "no"},
		{"Exim's wrapper", "SMTP error from remote mail server after RCPT TO:<ann@x.example>: host mx.x.example [192.0.2.25]: 550 no", "no"},
		{"another's of the kind", "SMTP error from remote server after RCPT command:\nhost mx.x.example\n550 no", "no"},
		{"with a reason", "SMTP error from remote server for TEXT command, host: mx.x.example (192.0.2.25) reason: 550 no", "no"},
		{"a code before another script", "550用户不存在", "用户不存在"},
		{"on each line", "550-用户\n550不存在", "用户 不存在"},
		{"a code in a wrapper before another script", "host mx.example.com[192.0.2.1] said: 550用户不存在", "用户不存在"},
		{"a number of things before another script", "500通を超えました", "N 通を超えました"},
	} {
		if got := normalised(c, tt.text); got != tt.want {
			t.Errorf("%s: %q: %q, want %q", tt.name, tt.text, got, tt.want)
		}
	}
}
