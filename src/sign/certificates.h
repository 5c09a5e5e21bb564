// Certificates (X.509) of those who sign, and the way from them to a root that somebody trusts. Nothing is
// fetched: no list of the system's roots, no revocations.
#pragma once
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "sign/ec_key.h"

namespace retort {

// In DER: the signer's own first, then that of who issued it, and so on.
using Certificates = std::vector<std::string>;

// What is signed with: the certificates of `files` (PEM), in their order. FormatError unless the first is
// that of `key`, is there to sign code and is valid `at`, and each other one issued the one before it. One
// that issued itself is left out: a root is brought by who verifies.
Certificates certificates_to_sign_with(const EcKey& key, const std::vector<std::filesystem::path>& files,
                                       std::time_t at);

// What is trusted: the roots in a file in PEM, and the time at which certificates have to be valid.
struct Trust {
  std::filesystem::path roots;
  std::time_t at = 0;
};
struct Signer {
  std::string name;  // its certificate's subject, as RFC 2253 writes it
  EcKey key;
};
// Whoever the first of `found` names. FormatError, at `place` of `file`, unless a chain of valid certificates
// leads from it to a root and it is there to sign code.
Signer trusted_signer(const Certificates& found, const Trust& trust, const std::string& file,
                      const std::string& place);

// "2026-05-03" (noon, UTC) and "2026-05-03T10:00:00Z"; RecipeError for anything else.
std::time_t moment_of(const std::string& text);

}  // namespace retort
