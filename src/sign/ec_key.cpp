#include "sign/ec_key.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"

namespace retort {

namespace {

template <auto Function> struct Freed {
  template <class T> void operator()(T* pointer) const { Function(pointer); }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>>;

// An encrypted key is refused instead of asked for on the terminal.
int no_password(char*, int, int, void*) { return 0; }

Bio memory(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

const EVP_MD* digest_of(int bits) {
  return bits == 256 ? EVP_sha256() : bits == 384 ? EVP_sha384() : EVP_sha512();
}

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

[[noreturn]] void openssl_failed(const char* what) {
  char reason[200] = {};
  ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
  throw Failure(fmt::format("OpenSSL: {}: {}", what, reason));
}

constexpr size_t kLargestKey = size_t{1} << 16;

}  // namespace

void EcKey::Free::operator()(void* key) const { EVP_PKEY_free(static_cast<EVP_PKEY*>(key)); }

EcKey::EcKey(void* key, const std::filesystem::path& file) : key_(key) {
  const auto* pkey = static_cast<const EVP_PKEY*>(key);
  const int bits = key ? EVP_PKEY_get_bits(pkey) : 0;
  if (!key || EVP_PKEY_get_base_id(pkey) != EVP_PKEY_EC || (bits != 256 && bits != 384 && bits != 521))
    corrupt(file.string(), "",
            key ? "expected a key on the curve P-256, P-384 or P-521, found another kind"
                : "holds no key in PEM that is not encrypted; `openssl ecparam -name prime256v1 -genkey -noout` "
                  "makes one, `openssl ec -pubout` its public half");
  bits_ = bits;
}

EcKey EcKey::private_key(const std::filesystem::path& file) {
  const auto text = read_text(file, kLargestKey);
  return EcKey(PEM_read_bio_PrivateKey(memory(text).get(), nullptr, no_password, nullptr), file);
}

EcKey EcKey::public_key(const std::filesystem::path& file) {
  const auto text = read_text(file, kLargestKey);
  return EcKey(PEM_read_bio_PUBKEY(memory(text).get(), nullptr, no_password, nullptr), file);
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
  char* data = nullptr;
  const auto size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<size_t>(size)};
}

std::string EcKey::hint() const { return sha256(std::string_view(public_pem())); }

}  // namespace retort
