package serviceauth

import "github.com/bluesky-social/indigo/atproto/auth"

var signIndigo = auth.SignServiceAuth
