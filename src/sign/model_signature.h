// OpenSSF Model Signing v1.0: an in-toto statement with the hash of every file of a model, in a signed DSSE
// envelope, in a Sigstore bundle. What one program writes, the others verify
// (github.com/ossf/model-signing-spec).
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "sign/certificates.h"
#include "sign/ec_key.h"

namespace retort {

// FOLDER/model.sig, or FILE.sig beside a file.
std::filesystem::path usual_signature(const std::filesystem::path& model);

// The statement over all files of a model: a folder, or one file, whose name in it is ".". `signature` and
// what belongs to git or is a lock is left out, and named as left out. FormatError for links and a folder
// without files.
std::string statement_of(const std::filesystem::path& model, const std::filesystem::path& signature);

// Writes `signature`, which names the key, or brings its certificates where there are any. Returns how many
// files are in it.
size_t sign_model(const std::filesystem::path& model, const std::filesystem::path& signature,
                  const EcKey& key, const Certificates& certificates = {});

struct SignedDifference {
  std::string file, what;  // "modified", "missing", "added"
};
struct VerifiedModel {
  size_t files = 0;
  std::vector<SignedDifference> differences;  // empty: the model is what was signed
  std::string signer;                         // whom the certificate names; empty: a key alone
};
// FormatError where the signature is none of this kind, or is not this key's.
VerifiedModel verify_model(const std::filesystem::path& model, const std::filesystem::path& signature,
                           const EcKey& key);
// FormatError where the signature brings no certificates, or none that is trusted.
VerifiedModel verify_model(const std::filesystem::path& model, const std::filesystem::path& signature,
                           const Trust& trust);

}  // namespace retort
