// Crops of an image straight into a network's input, a thread a pixel: what crop.made and network_input do.
// Tests compile it as C++, too.

// As crop_warper.RECORD. Squares count from the first one that is read; one more of black is around them.
struct Crop {
    double H_squares_crop[9];
    float exponent;
    int pitch;             // image px on a side of a square
    int left, top;         // image px of the first square
    int wide, tall;        // squares that are read, 0 where the crop shows nothing of the image
    int is_through_grid;   // instead of the homography
};

// OpenCV reads between pixels in so many steps, and networks were trained on that.
__device__ const int STEPS = 32;
// As crop_plan.GRID_PITCH.
__device__ const int GRID_PITCH = 8;

// Where pixel (u, v) of a crop lies on its squares, in whole steps.
__device__ void place_by_homography(const double* H, int u, int v, double* x, double* y)
{
    const double scale = STEPS / (H[6] * u + H[7] * v + H[8]);
    *x = rint((H[0] * u + H[1] * v + H[2]) * scale);
    *y = rint((H[3] * u + H[4] * v + H[5]) * scale);
}

// grid: (x, y) for every GRID_PITCH-th pixel, `points` a row.
__device__ void place_by_grid(const float* grid, int points, int u, int v, double* x, double* y)
{
    const float* upper = grid + 2 * ((v / GRID_PITCH) * points + u / GRID_PITCH);
    const float* lower = upper + 2 * points;
    const float right = (u % GRID_PITCH) / (float)GRID_PITCH, down = (v % GRID_PITCH) / (float)GRID_PITCH;
    const float w00 = (1 - right) * (1 - down), w01 = right * (1 - down), w10 = (1 - right) * down, w11 = right * down;
    *x = rintf((upper[0] * w00 + upper[2] * w01 + lower[0] * w10 + lower[2] * w11) * STEPS);
    *y = rintf((upper[1] * w00 + upper[3] * w01 + lower[1] * w10 + lower[3] * w11) * STEPS);
}

// Adds the mean light of the square in a column and a row, the frame of black being number 0, to sum [3].
__device__ void add_square(const unsigned char* image, int row_bytes, const float* decoding, const Crop& crop,
                           int column, int row, float weight, float* sum)
{
    if (column < 1 || row < 1 || column > crop.wide || row > crop.tall) {
        for (int channel = 0; channel < 3; ++channel)
            sum[channel] += weight * decoding[0];
        return;
    }
    const int left = crop.left + (column - 1) * crop.pitch, top = crop.top + (row - 1) * crop.pitch;
    float light[3] = {0, 0, 0};
    for (int y = top; y < top + crop.pitch; ++y) {
        const unsigned char* pixel = image + (long long)y * row_bytes + 3 * left;
        for (int x = 0; x < crop.pitch; ++x, pixel += 3)
            for (int channel = 0; channel < 3; ++channel)
                light[channel] += decoding[pixel[channel]];
    }
    weight /= crop.pitch * crop.pitch;
    for (int channel = 0; channel < 3; ++channel)
        sum[channel] += weight * light[channel];
}

// image: uint8 RGB, row_bytes a row. constants [262]: linear light of each 8-bit value, then means and deviations of the
// channels. crops and grids: of the crops that are made, which blockIdx.z counts. out: [crops, side, side, 3] float32
// where channels_last, else [crops, 3, side, side].
extern "C" __global__ void warp(const unsigned char* image, int row_bytes, const float* constants, const Crop* crops,
                                const float* grids, int points, int side, int channels_last, float* out)
{
    const int u = blockIdx.x * blockDim.x + threadIdx.x, v = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (u >= side || v >= side)
        return;
    const Crop& crop = crops[n];
    const float *decoding = constants, *mean = constants + 256, *deviation = mean + 3;
    double x, y;
    if (crop.is_through_grid)
        place_by_grid(grids + (long long)n * points * points * 2, points, u, v, &x, &y);
    else
        place_by_homography(crop.H_squares_crop, u, v, &x, &y);
    float light[3] = {decoding[0], decoding[0], decoding[0]};
    // False where x or y is no number, too.
    if (x >= 0 && y >= 0 && x < (double)(crop.wide + 1) * STEPS && y < (double)(crop.tall + 1) * STEPS) {
        const int column = (int)x / STEPS, row = (int)y / STEPS;
        const float right = ((int)x % STEPS) / (float)STEPS, down = ((int)y % STEPS) / (float)STEPS;
        light[0] = light[1] = light[2] = 0;
        add_square(image, row_bytes, decoding, crop, column, row, (1 - right) * (1 - down), light);
        add_square(image, row_bytes, decoding, crop, column + 1, row, right * (1 - down), light);
        add_square(image, row_bytes, decoding, crop, column, row + 1, (1 - right) * down, light);
        add_square(image, row_bytes, decoding, crop, column + 1, row + 1, right * down, light);
    }
    const long long pixels = (long long)side * side, pixel = (long long)v * side + u;
    for (int channel = 0; channel < 3; ++channel) {
        const float value = (powf(light[channel], crop.exponent) - mean[channel]) / deviation[channel];
        out[channels_last ? (n * pixels + pixel) * 3 + channel : (n * 3 + channel) * pixels + pixel] = value;
    }
}
