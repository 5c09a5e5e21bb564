#include "sign/model_signature.h"

#include <openssl/evp.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/json_fields.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

constexpr const char* kBundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
constexpr const char* kPayload = "application/vnd.in-toto+json";
constexpr const char* kStatement = "https://in-toto.io/Statement/v1";
constexpr const char* kPredicate = "https://model_signing/signature/v1.0";

std::string to_base64(std::string_view text) {
  std::string out(4 * ((text.size() + 2) / 3) + 1, '\0');
  const auto size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  out.resize(static_cast<size_t>(size));
  return out;
}

std::string from_base64(const std::string& text, const JsonPlace& place) {
  std::string out(text.size() / 4 * 3 + 1, '\0');
  const auto size = text.size() % 4 != 0
                        ? -1
                        : EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                          reinterpret_cast<const unsigned char*>(text.data()),
                                          static_cast<int>(text.size()));
  if (size < 0) corrupt(place.file, place.path, "is no base64");
  out.resize(static_cast<size_t>(size));
  for (size_t i = 0; i < 2 && text.size() > i && text[text.size() - 1 - i] == '='; ++i) out.pop_back();
  return out;
}

// What is signed of a payload (DSSE v1: "pre-authentication encoding").
std::string encoded(const std::string& payload) {
  return fmt::format("DSSEv1 {} {} {} ", std::string_view(kPayload).size(), kPayload, payload.size()) +
         payload;
}

bool is_within(const fs::path& path, const fs::path& root) {
  return std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end();
}

std::string hex_bytes(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

// Name to sha256, of every file but those at or beneath `ignored`.
std::map<std::string, std::string> hashes_of(const fs::path& model, const std::vector<std::string>& ignored,
                                             bool links_too) {
  std::map<std::string, std::string> hashes;
  if (fs::is_regular_file(model)) {
    hashes.emplace(".", sha256_file(model));
    return hashes;
  }
  if (!fs::is_directory(model)) corrupt(model.string(), "", "no such file or folder");
  for (auto entry = fs::recursive_directory_iterator(model); entry != fs::recursive_directory_iterator();
       ++entry) {
    const auto name = entry->path().lexically_relative(model);
    if (std::any_of(ignored.begin(), ignored.end(),
                    [&](const std::string& root) { return is_within(name, fs::path(root)); })) {
      entry.disable_recursion_pending();
      continue;
    }
    if (entry->is_symlink() && (!links_too || entry->is_directory()))  // nobody looks into a linked folder
      corrupt(entry->path().string(), "",
              "is a link; what it leads to is not part of the model: copy it there");
    if (entry->is_regular_file()) hashes.emplace(name.string(), sha256_file(entry->path()));
    else if (!entry->is_directory()) corrupt(entry->path().string(), "", "is neither a file nor a folder");
  }
  if (hashes.empty()) corrupt(model.string(), "", "holds no file to sign");
  return hashes;
}

std::string name_of(const fs::path& model) {
  const auto path = fs::weakly_canonical(model);
  return path.filename().empty() ? path.parent_path().filename().string() : path.filename().string();
}

constexpr size_t kMostCertificates = 20;  // a chain has two or three

// The parts of a bundle that are used here.
struct Envelope {
  std::string payload, signature, hint;
  Certificates certificates;  // none: a bare key signed
};
Envelope open_bundle(const fs::path& file) {
  const JsonPlace place{file.string()};
  const auto json = read_json(file);
  const auto at = [&](const Json& object, const char* name, const JsonPlace& where) -> const Json& {
    if (!object.is_object() || !object.contains(name)) wrong_json(where.at(name), "", nullptr);
    return object[name];
  };
  const auto text = [&](const Json& object, const char* name, const JsonPlace& where) {
    return read_as<std::string>(at(object, name, where), where.at(name));
  };
  if (const auto kind = text(json, "mediaType", place); kind != kBundle)
    corrupt(place.file, "mediaType", fmt::format("expected {}, found {}", kBundle, printable(kind)));
  Envelope found;
  const auto material = place.at("verificationMaterial");
  const auto& verification = at(json, "verificationMaterial", place);
  if (!verification.is_object()) wrong_json(material, "an object", &verification);
  if (verification.contains("x509CertificateChain")) {
    const auto chain = material.at("x509CertificateChain");
    const auto list = read_as<std::vector<Json>>(
        at(verification["x509CertificateChain"], "certificates", chain), chain.at("certificates"));
    if (list.empty() || list.size() > kMostCertificates)
      corrupt(place.file, chain.path,
              fmt::format("expected 1 to {} certificates, found {}", kMostCertificates, list.size()));
    for (const auto& one : list) {
      const auto where = chain.at("certificates").at(found.certificates.size());
      found.certificates.push_back(from_base64(text(one, "rawBytes", where), where.at("rawBytes")));
    }
  } else if (verification.contains("publicKey")) {
    const auto& key = verification["publicKey"];
    if (key.is_object() && key.contains("hint")) found.hint = text(key, "hint", material.at("publicKey"));
  } else {
    corrupt(
        place.file, material.path,
        verification.contains("certificate")
            ? "was signed by Sigstore's method without keys, whose log is on the network; keys and chains "
              "of certificates are verified here"
            : "names neither a key nor a chain of certificates");
  }
  const auto envelope_place = place.at("dsseEnvelope");
  const auto& envelope = at(json, "dsseEnvelope", place);
  if (const auto kind = text(envelope, "payloadType", envelope_place); kind != kPayload)
    corrupt(place.file, "dsseEnvelope.payloadType",
            fmt::format("expected {}, found {}", kPayload, printable(kind)));
  found.payload = from_base64(text(envelope, "payload", envelope_place), envelope_place.at("payload"));
  const auto signatures =
      read_as<std::vector<Json>>(at(envelope, "signatures", envelope_place), envelope_place.at("signatures"));
  if (signatures.size() != 1)
    corrupt(place.file, "dsseEnvelope.signatures", fmt::format("expected 1, found {}", signatures.size()));
  const auto one = envelope_place.at("signatures").at(size_t{0});
  found.signature = from_base64(text(signatures[0], "sig", one), one.at("sig"));
  return found;
}

struct Serialization {
  std::string method, hash_type;
  bool allow_symlinks = false;
  std::vector<std::string> ignore_paths;
  template <class Visitor> void fields(Visitor& field) {
    field("method", method), field("hash_type", hash_type), field("allow_symlinks", allow_symlinks);
    field.rare("ignore_paths", ignore_paths);
  }
};
struct Resource {
  std::string name, algorithm, digest;
  template <class Visitor> void fields(Visitor& field) {
    field("name", name), field("algorithm", algorithm), field("digest", digest);
  }
};
struct Predicate {
  Serialization serialization;
  std::vector<Resource> resources;
  template <class Visitor> void fields(Visitor& field) {
    field("serialization", serialization), field("resources", resources);
  }
};
struct Subject {
  std::string name;
  std::map<std::string, std::string> digest;
  template <class Visitor> void fields(Visitor& field) { field("name", name), field("digest", digest); }
};
struct Kind {
  std::string type, predicate_type;
  template <class Visitor> void fields(Visitor& field) {
    field("_type", type), field("predicateType", predicate_type);
  }
};
struct Statement {
  std::string type = kStatement;
  std::vector<Subject> subject;
  std::string predicate_type = kPredicate;
  Predicate predicate;
  template <class Visitor> void fields(Visitor& field) {
    field("_type", type), field("subject", subject), field("predicateType", predicate_type);
    field("predicate", predicate);
  }
};

// Over the digests in the order of the resources.
std::string root_of(const std::vector<Resource>& resources) {
  Sha256 root;
  for (const auto& resource : resources) root.add(hex_bytes(resource.digest));
  return root.hex();
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Statement statement_in(const std::string& payload, const std::string& file) {
  const JsonPlace place{file, "payload"};
  const auto json = parse_json(payload, file);
  const auto kind = read_as<Kind>(json, place);
  if (kind.type != kStatement || kind.predicate_type != kPredicate)
    corrupt(file, "payload",
            fmt::format("expected a statement {}, found {}; sign the model anew", kPredicate,
                        printable(kind.predicate_type)));
  auto statement = read_as<Statement>(json, place);
  const auto& how = statement.predicate.serialization;
  if (how.method != "files" || how.hash_type != "sha256")
    corrupt(file, "payload.predicate.serialization",
            fmt::format("method {} over {} is not read; expected files over sha256", printable(how.method),
                        printable(how.hash_type)));
  for (const auto& resource : statement.predicate.resources)
    if (resource.algorithm != "sha256" || !is_sha256(resource.digest))
      corrupt(file, resource.name, "expected a sha256 of 64 digits");
  if (statement.subject.size() != 1 || !statement.subject[0].digest.contains("sha256") ||
      statement.subject[0].digest.at("sha256") != root_of(statement.predicate.resources))
    corrupt(file, "payload.subject", "its digest is not that of the files that it lists");
  return statement;
}

// The files of a model with what `key` signed.
VerifiedModel compare(const fs::path& model, const fs::path& signature, const Envelope& envelope,
                      const EcKey& key) {
  if (!key.verifies(encoded(envelope.payload), envelope.signature))
    corrupt(signature.string(), "dsseEnvelope", "the signature is not one of this key over this statement");
  const auto statement = statement_in(envelope.payload, signature.string());
  const auto& how = statement.predicate.serialization;
  auto ignored = how.ignore_paths;
  for (const auto* git : {".git", ".gitattributes", ".github", ".gitignore"}) ignored.emplace_back(git);
  const auto inside = fs::weakly_canonical(signature).lexically_relative(fs::weakly_canonical(model));
  if (!inside.empty() && inside != "." && !inside.string().starts_with(".."))
    ignored.push_back(inside.string());
  auto found = hashes_of(model, ignored, how.allow_symlinks);
  VerifiedModel verified;
  verified.files = statement.predicate.resources.size();
  for (const auto& [name, algorithm, digest] : statement.predicate.resources) {
    const auto there = found.find(name);
    if (there == found.end()) verified.differences.push_back({name, "missing"});
    else if (there->second != digest)
      verified.differences.push_back(
          {name, fmt::format("modified: sha256 {} now, {} signed", there->second, digest)});
    if (there != found.end()) found.erase(there);
  }
  for (const auto& [name, hash] : found) verified.differences.push_back({name, "added"});
  return verified;
}

}  // namespace

fs::path usual_signature(const fs::path& model) {
  if (fs::is_directory(model)) return model / "model.sig";
  auto file = model;
  return file += ".sig";
}

std::string statement_of(const fs::path& model, const fs::path& signature) {
  Statement statement;
  auto& how = statement.predicate.serialization;
  how = {"files", "sha256", false, {}};
  if (fs::is_directory(model)) {
    how.ignore_paths = {".git", ".gitattributes", ".github", ".gitignore"};
    const auto inside = fs::weakly_canonical(signature).lexically_relative(fs::weakly_canonical(model));
    if (!inside.empty() && !inside.string().starts_with("..")) how.ignore_paths.push_back(inside.string());
    for (const auto* lock : {"run.lock", "train.lock"})  // of a run: they say who came last
      if (fs::exists(model / lock)) how.ignore_paths.emplace_back(lock);
    std::sort(how.ignore_paths.begin(), how.ignore_paths.end());
  }
  for (const auto& [name, hash] : hashes_of(model, how.ignore_paths, false))
    statement.predicate.resources.push_back({name, "sha256", hash});
  statement.subject = {{name_of(model), {{"sha256", root_of(statement.predicate.resources)}}}};
  return json_as<OrderedJson>(statement).dump();
}

size_t sign_model(const fs::path& model, const fs::path& signature, const EcKey& key,
                  const Certificates& certificates) {
  const auto payload = statement_of(model, signature);
  OrderedJson material;
  if (certificates.empty()) material["publicKey"] = {{"hint", key.hint()}};
  for (const auto& der : certificates)
    material["x509CertificateChain"]["certificates"].push_back(OrderedJson{{"rawBytes", to_base64(der)}});
  material["tlogEntries"] = OrderedJson::array();
  const OrderedJson bundle = {
      {"mediaType", kBundle},
      {"verificationMaterial", material},
      {"dsseEnvelope",
       {{"payload", to_base64(payload)},
        {"payloadType", kPayload},
        {"signatures",
         OrderedJson::array({{{"sig", to_base64(key.sign(encoded(payload)))}, {"keyid", ""}}})}}}};
  write_text(signature, bundle.dump());
  return statement_in(payload, signature.string()).predicate.resources.size();
}

VerifiedModel verify_model(const fs::path& model, const fs::path& signature, const EcKey& key) {
  const auto envelope = open_bundle(signature);
  if (!envelope.certificates.empty())
    corrupt(signature.string(), "verificationMaterial",
            "was made with a certificate; verify it with --root and the root that you trust");
  if (!envelope.hint.empty() && envelope.hint != key.hint())
    corrupt(signature.string(), "verificationMaterial.publicKey.hint",
            fmt::format("it was signed with another key: {}, and this one is {}", printable(envelope.hint),
                        key.hint()));
  return compare(model, signature, envelope, key);
}

VerifiedModel verify_model(const fs::path& model, const fs::path& signature, const Trust& trust) {
  const auto envelope = open_bundle(signature);
  if (envelope.certificates.empty())
    corrupt(signature.string(), "verificationMaterial",
            "was made with a key without a certificate; verify it with --key and the public half");
  const auto signer = trusted_signer(envelope.certificates, trust, signature.string(),
                                     "verificationMaterial.x509CertificateChain");
  auto verified = compare(model, signature, envelope, signer.key);
  verified.signer = signer.name;
  return verified;
}

}  // namespace retort
