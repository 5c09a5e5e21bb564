#include "sign/certificates.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>

#include "base/files.h"
#include "sign/openssl.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Store = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;
struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
using Stack = std::unique_ptr<STACK_OF(X509), FreeStack>;

// A signer's chain has two or three, a file of roots some hundreds.
constexpr size_t kLargestFile = size_t{1} << 20;
// Of OpenSSL's levels: 112 bits of security. RSA from 2,048 bits, no SHA-1 in signatures of certificates.
constexpr int kSecurityLevel = 2;

std::vector<Certificate> read_pem(const fs::path& file) {
  const auto text = read_text(file, kLargestFile);
  const auto bio = bio_over(text);
  std::vector<Certificate> found;
  while (auto* one = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) found.emplace_back(one);
  const auto error = ERR_peek_last_error();  // the end of the file, where all was right
  ERR_clear_error();
  if (found.empty()) corrupt(file.string(), "", "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)");
  if (ERR_GET_REASON(error) != PEM_R_NO_START_LINE)
    corrupt(file.string(), "", fmt::format("certificate {} in it cannot be read", found.size() + 1));
  return found;
}

Certificate of_der(const std::string& der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const auto* end = at + der.size();
  Certificate found(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  if (at != end) found.reset();
  return found;
}

std::string der_of(X509* certificate) {
  unsigned char* bytes = nullptr;
  const int size = i2d_X509(certificate, &bytes);
  if (size < 0) openssl_failed("writing a certificate");
  std::string der(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return der;
}

std::string written(const X509_NAME* name) {
  const Bio out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253);
  return text_of(out.get());
}
std::string subject_of(const X509* certificate) {
  return printable(written(X509_get_subject_name(certificate)));
}
std::string issuer_of(const X509* certificate) {
  return printable(written(X509_get_issuer_name(certificate)));
}

std::string written(std::time_t time) {
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}
std::string written(const ASN1_TIME* time) {
  std::tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? written(::timegm(&parts)) : "a time that is none";
}

std::string validity_of(const X509* certificate) {
  return fmt::format("is valid from {} to {}", written(X509_get0_notBefore(certificate)),
                     written(X509_get0_notAfter(certificate)));
}

bool is_valid(const X509* certificate, std::time_t at) {
  return X509_cmp_time(X509_get0_notBefore(certificate), &at) < 0 &&
         X509_cmp_time(X509_get0_notAfter(certificate), &at) > 0;
}

bool issued(X509* issuer, X509* subject) { return X509_check_issued(issuer, subject) == X509_V_OK; }

// RFC 5280, 4.2.1.3 and 4.2.1.12: where both extensions are there, both have to allow it.
std::string why_not_to_sign(X509* certificate) {
  const auto usage = X509_get_key_usage(certificate);  // all bits: it says nothing
  const auto extended = X509_get_extended_key_usage(certificate);
  if (usage == UINT32_MAX && extended == UINT32_MAX)
    return "does not say that it is there to sign (neither keyUsage digitalSignature nor extendedKeyUsage "
           "codeSigning)";
  if ((usage & KU_DIGITAL_SIGNATURE) == 0) return "is not there to sign: its keyUsage lacks digitalSignature";
  if ((extended & XKU_CODE_SIGN) == 0)
    return "is not there to sign code: its extendedKeyUsage lacks codeSigning";
  return "";
}

EcKey key_of(X509* certificate, const std::string& place) {
  auto* key = X509_get_pubkey(certificate);
  ERR_clear_error();
  if (!key) corrupt(place, subject_of(certificate), "its certificate holds no key that can be read");
  return EcKey::of_openssl(key, fmt::format("{}: certificate of {}", place, subject_of(certificate)));
}

// What X509_verify_cert() found, of the certificate that it looked at last.
std::string why_not_trusted(X509_STORE_CTX* context, const X509* signer, const Trust& trust) {
  const auto error = X509_STORE_CTX_get_error(context);
  const auto* current = X509_STORE_CTX_get_current_cert(context);
  if (!current) current = signer;
  const auto roots = printable(trust.roots.string());
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return fmt::format(
          "{} {}, and not at {}; --at DAY asks for the day of the signature, where it is known",
          subject_of(current), validity_of(current), written(trust.at));
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return fmt::format("no certificate of {}, which issued {}, is in {} or in the signature",
                         issuer_of(current), subject_of(current), roots);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
      return fmt::format("it leads to {}, which is not in {}", subject_of(current), roots);
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return fmt::format("{} was signed by another {} than the one in {} or in the signature",
                         subject_of(current), issuer_of(current), roots);
    default: return fmt::format("{}: {}", subject_of(current), X509_verify_cert_error_string(error));
  }
}

}  // namespace

Certificates certificates_to_sign_with(const EcKey& key, const std::vector<fs::path>& files, std::time_t at) {
  std::vector<Certificate> all;
  for (const auto& file : files)
    for (auto& one : read_pem(file)) all.push_back(std::move(one));
  const auto first = files.at(0).string();
  auto* signer = all.at(0).get();
  if (!key.same_public_half(key_of(signer, first)))
    corrupt(first, subject_of(signer),
            "is the certificate of another key; the first in the file has to be that of the key that signs");
  if (const auto reason = why_not_to_sign(signer); !reason.empty())
    corrupt(first, subject_of(signer), reason);
  Certificates chain;
  for (size_t i = 0; i < all.size(); ++i) {
    auto* one = all[i].get();
    if (!is_valid(one, at))
      corrupt(first, subject_of(one), validity_of(one) + ", and so not now; have a new one issued");
    if (i > 0 &&
        !(issued(one, all[i - 1].get()) && X509_verify(all[i - 1].get(), X509_get0_pubkey(one)) == 1)) {
      ERR_clear_error();
      corrupt(
          first, subject_of(one),
          fmt::format("did not issue {}, behind which it stands; expected each certificate before the one "
                      "that issued it",
                      subject_of(all[i - 1].get())));
    }
    if (i == 0 || !issued(one, one)) chain.push_back(der_of(one));
  }
  ERR_clear_error();
  return chain;
}

Signer trusted_signer(const Certificates& found, const Trust& trust, const std::string& file,
                      const std::string& place) {
  std::vector<Certificate> chain;
  const Stack others(sk_X509_new_null());
  for (const auto& der : found) {
    chain.push_back(of_der(der));
    if (!chain.back()) corrupt(file, place, fmt::format("certificate {} cannot be read", chain.size()));
    if (chain.size() > 1) sk_X509_push(others.get(), chain.back().get());
  }
  auto* signer = chain.at(0).get();
  const Store store(X509_STORE_new());
  for (const auto& root : read_pem(trust.roots))
    if (X509_STORE_add_cert(store.get(), root.get()) != 1) openssl_failed("keeping a root");
  const StoreContext context(X509_STORE_CTX_new());
  if (X509_STORE_CTX_init(context.get(), store.get(), signer, others.get()) != 1)
    openssl_failed("looking at certificates");
  auto* how = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(how, trust.at);
  X509_VERIFY_PARAM_set_auth_level(how, kSecurityLevel);
  if (X509_verify_cert(context.get()) != 1)
    corrupt(file, place, "is not trusted: " + why_not_trusted(context.get(), signer, trust));
  if (const auto reason = why_not_to_sign(signer); !reason.empty())
    corrupt(file, place, fmt::format("the certificate of {} {}", subject_of(signer), reason));
  auto* const way = X509_STORE_CTX_get0_chain(context.get());
  for (int i = 1; i + 1 < sk_X509_num(way); ++i) {  // an authority for other uses makes no signers of code
    auto* const issuer = sk_X509_value(way, i);
    if ((X509_get_extended_key_usage(issuer) & (XKU_CODE_SIGN | XKU_ANYEKU)) == 0)
      corrupt(
          file, place,
          fmt::format("{} may not issue certificates to sign code: its extendedKeyUsage lacks codeSigning",
                      subject_of(issuer)));
  }
  ERR_clear_error();
  return {subject_of(signer), key_of(signer, file)};
}

std::time_t moment_of(const std::string& text) {
  std::tm parts{};
  parts.tm_hour = 12;
  int end = 0;
  const bool day =
      std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &parts.tm_year, &parts.tm_mon, &parts.tm_mday, &end) == 3 &&
      end == 10;
  if (day && text.size() == 20) {
    end = 0;
    std::sscanf(text.c_str() + 10, "T%2d:%2d:%2dZ%n", &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &end);
    end += 10;
  }
  parts.tm_year -= 1900, parts.tm_mon -= 1;
  auto normal = parts;
  const auto moment = ::timegm(&normal);  // 31 February becomes a day in March
  if (!day || end != static_cast<int>(text.size()) || normal.tm_mday != parts.tm_mday ||
      normal.tm_mon != parts.tm_mon || normal.tm_hour != parts.tm_hour || normal.tm_min != parts.tm_min ||
      normal.tm_sec != parts.tm_sec)
    throw RecipeError(fmt::format(
        "--at: expected a day (2026-05-03) or a time (2026-05-03T10:00:00Z), found {}", printable(text)));
  return moment;
}

}  // namespace retort
