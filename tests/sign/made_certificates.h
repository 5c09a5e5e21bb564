// Certificates for tests, made on the spot.
#pragma once
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <memory>
#include <string>

#include "sign/ec_key.h"
#include "sign/openssl.h"

namespace retort {

struct MadeCertificate {
  std::shared_ptr<EVP_PKEY> key;
  std::shared_ptr<X509> certificate;

  EcKey signs_with() const {
    EVP_PKEY_up_ref(key.get());
    return EcKey::of_openssl(key.get(), "made here");
  }
  std::string der() const {
    unsigned char* bytes = nullptr;
    const int size = i2d_X509(certificate.get(), &bytes);
    std::string out(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
    OPENSSL_free(bytes);
    return out;
  }
  std::string pem() const {
    const Bio out(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(out.get(), certificate.get());
    return text_of(out.get());
  }
  std::string private_pem() const {
    const Bio out(BIO_new(BIO_s_mem()));
    PEM_write_bio_PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    return text_of(out.get());
  }
};

// What a certificate says; an extension that is "" is left out.
struct CertificateWish {
  std::string name;
  const char* constraints = "critical,CA:FALSE";
  const char* usage = "critical,digitalSignature";
  const char* extended = "codeSigning";
  std::time_t from = 0, to = 0;
};
inline CertificateWish authority(const std::string& name, std::time_t from, std::time_t to) {
  return {name, "critical,CA:TRUE", "critical,keyCertSign", "", from, to};
}

// Without an issuer it issues itself.
inline MadeCertificate made_certificate(const CertificateWish& wish,
                                        const MadeCertificate* issuer = nullptr) {
  static long serial = 0;
  MadeCertificate made{{EVP_EC_gen("P-256"), EVP_PKEY_free}, {X509_new(), X509_free}};
  auto* certificate = made.certificate.get();
  auto* by = issuer ? issuer->certificate.get() : certificate;
  X509_set_version(certificate, 2);  // 3
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
  ASN1_TIME_set(X509_getm_notBefore(certificate), wish.from);
  ASN1_TIME_set(X509_getm_notAfter(certificate), wish.to);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(wish.name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate, X509_get_subject_name(by));
  X509_set_pubkey(certificate, made.key.get());
  X509V3_CTX context;
  X509V3_set_ctx(&context, by, certificate, nullptr, nullptr, 0);
  const std::pair<int, const char*> extensions[] = {{NID_basic_constraints, wish.constraints},
                                                    {NID_key_usage, wish.usage},
                                                    {NID_ext_key_usage, wish.extended},
                                                    {NID_subject_key_identifier, "hash"},
                                                    {NID_authority_key_identifier, "keyid"}};
  for (const auto& [kind, value] : extensions) {
    if (*value == '\0') continue;
    auto* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(certificate, issuer ? issuer->key.get() : made.key.get(), EVP_sha256());
  return made;
}

}  // namespace retort
