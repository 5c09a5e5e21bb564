#include "sign/ec_key.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/files.h"
#include "base/hash.h"
#include "sign/openssl.h"

namespace retort {

namespace {

using DigestContext = std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>>;

// An encrypted key is refused instead of asked for on the terminal.
int no_password(char*, int, int, void*) { return 0; }

const EVP_MD* digest_of(int bits) {
  return bits == 256 ? EVP_sha256() : bits == 384 ? EVP_sha384() : EVP_sha512();
}

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

constexpr size_t kLargestKey = size_t{1} << 16;

[[noreturn]] void no_key(const std::filesystem::path& file) {
  corrupt(file.string(), "",
          "holds no key in PEM that is not encrypted; `openssl ecparam -name prime256v1 -genkey -noout` "
          "makes one, `openssl ec -pubout` its public half");
}

}  // namespace

void EcKey::Free::operator()(void* key) const { EVP_PKEY_free(static_cast<EVP_PKEY*>(key)); }

EcKey EcKey::of_openssl(void* evp_pkey, const std::string& place) {
  const auto* key = static_cast<const EVP_PKEY*>(evp_pkey);
  EcKey found(evp_pkey, EVP_PKEY_get_bits(key));
  if (!EVP_PKEY_is_a(key, "EC") || (found.bits_ != 256 && found.bits_ != 384 && found.bits_ != 521))
    corrupt(place, "", "expected a key on the curve P-256, P-384 or P-521, found another kind");
  return found;
}

EcKey EcKey::private_key(const std::filesystem::path& file) {
  const auto text = read_text(file, kLargestKey);
  auto* key = PEM_read_bio_PrivateKey(bio_over(text).get(), nullptr, no_password, nullptr);
  ERR_clear_error();
  if (!key) no_key(file);
  return of_openssl(key, file.string());
}

EcKey EcKey::public_key(const std::filesystem::path& file) {
  const auto text = read_text(file, kLargestKey);
  auto* key = PEM_read_bio_PUBKEY(bio_over(text).get(), nullptr, no_password, nullptr);
  ERR_clear_error();
  if (!key) no_key(file);
  return of_openssl(key, file.string());
}

std::string EcKey::sign(std::string_view text) const {
  const DigestContext context(EVP_MD_CTX_new());
  auto* key = static_cast<EVP_PKEY*>(key_.get());
  size_t size = 0;
  if (EVP_DigestSignInit(context.get(), nullptr, digest_of(bits_), nullptr, key) != 1 ||
      EVP_DigestSign(context.get(), nullptr, &size, bytes_of(text), text.size()) != 1)
    openssl_failed("signing");
  std::string signature(size, '\0');
  if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes_of(text),
                     text.size()) != 1)
    openssl_failed("signing");
  signature.resize(size);
  return signature;
}

bool EcKey::verifies(std::string_view text, std::string_view signature) const {
  const DigestContext context(EVP_MD_CTX_new());
  if (EVP_DigestVerifyInit(context.get(), nullptr, digest_of(bits_), nullptr,
                           static_cast<EVP_PKEY*>(key_.get())) != 1)
    openssl_failed("verifying");
  const bool right = EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(text),
                                      text.size()) == 1;
  ERR_clear_error();
  return right;
}

std::string EcKey::public_pem() const {
  const Bio out(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PUBKEY(out.get(), static_cast<EVP_PKEY*>(key_.get())) != 1)
    openssl_failed("writing a public key");
  return text_of(out.get());
}

std::string EcKey::hint() const { return sha256(std::string_view(public_pem())); }

bool EcKey::same_public_half(const EcKey& other) const { return public_pem() == other.public_pem(); }

}  // namespace retort
