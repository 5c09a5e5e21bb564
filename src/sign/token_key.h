// Keys that never leave a token (a smart card, a YubiKey, an HSM): PKCS#11, through OpenSSL.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "sign/ec_key.h"

namespace retort {

// Whether a key is named by a URI of PKCS#11 (RFC 7512) instead of a file.
bool is_token_uri(std::string_view key);

// What such a URI says.
struct TokenUri {
  std::string object;              // "pkcs11:token=mine;object=signer;type=private", as it was escaped
  std::string module;              // module-path: the token's own library; empty: the one that is set up
  std::optional<std::string> pin;  // of pin-value, or the first line of the file pin-source
};
// RecipeError for a URI that is none, names no key, or names something else than a private key.
TokenUri read_token_uri(const std::string& uri);

// The private key that a URI names, by OpenSSL's provider "pkcs11" where that is installed, by its engine
// "pkcs11" otherwise. Failure, with the packages to install, where neither is; RecipeError where the token
// does not give the key. Nobody is asked for a PIN.
EcKey token_key(const std::string& uri);

}  // namespace retort
